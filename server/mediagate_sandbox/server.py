"""Sandbox server: construction, start and stop, for embedding and the command line."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
from aiohttp import web

from mediagate_sandbox.bill import Bill
from mediagate_sandbox.clock import Clock, SystemClock
from mediagate_sandbox.create_requests import CreateRequestParser
from mediagate_sandbox.examples import ExamplePredictions
from mediagate_sandbox.faults.engine import FaultEngine
from mediagate_sandbox.faults.fault_context import RequestClassifier
from mediagate_sandbox.faults.http_faults import FaultMiddleware
from mediagate_sandbox.faults.webhook_faults import choose_delivery_policy
from mediagate_sandbox.files import OutputFiles
from mediagate_sandbox.http_listener import open_listener
from mediagate_sandbox.input_links import InputLinks
from mediagate_sandbox.middleware.auth import auth_middleware
from mediagate_sandbox.middleware.cors import add_cors_headers, cors_middleware
from mediagate_sandbox.middleware.rate_limit import RateLimitMiddleware
from mediagate_sandbox.models import load_catalog
from mediagate_sandbox.price_list import load_price_list
from mediagate_sandbox.request_log import RequestLog
from mediagate_sandbox.reset import SandboxReset
from mediagate_sandbox.routes.accounts import AccountRoutes
from mediagate_sandbox.routes.bills import BillRoutes
from mediagate_sandbox.routes.control import ControlRoutes
from mediagate_sandbox.routes.faults import FaultRoutes
from mediagate_sandbox.routes.files import FileRoutes
from mediagate_sandbox.routes.html_pages import HtmlPageRoutes
from mediagate_sandbox.routes.model_search import ModelSearchRoutes
from mediagate_sandbox.routes.models import ModelRoutes
from mediagate_sandbox.routes.prediction_edits import PredictionEditRoutes
from mediagate_sandbox.routes.predictions import PredictionRoutes
from mediagate_sandbox.routes.rate_limits import RateLimitRoutes
from mediagate_sandbox.routes.streams import StreamRoutes
from mediagate_sandbox.routes.unimplemented import UnimplementedRoutes
from mediagate_sandbox.routes.uploads import UploadRoutes
from mediagate_sandbox.routes.webhooks import WebhookRoutes
from mediagate_sandbox.runner import Runner
from mediagate_sandbox.settings import SandboxSettings
from mediagate_sandbox.store import Store
from mediagate_sandbox.stream_cuts import StreamCut, StreamCuts
from mediagate_sandbox.uploads import Uploads
from mediagate_sandbox.webhook_delivery import WebhookDeliverer
from mediagate_sandbox.webhook_signing import WebhookSigner, new_secret

__all__ = ["Sandbox", "SandboxSettings", "run"]

log = logging.getLogger("mediagate.sandbox")

Server = TypeVar("Server")
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Sandbox:
    """A running sandbox: `async with Sandbox(SandboxSettings(port=0)) as sandbox: sandbox.url`."""

    def __init__(
        self, settings: SandboxSettings | None = None, *, clock: Clock | None = None
    ) -> None:
        """Create a sandbox; entering it starts it. Tests may pass a clock."""
        self.settings = settings or SandboxSettings()
        self.request_log = RequestLog()
        self.deliverer: WebhookDeliverer
        """Webhooks; there once the sandbox was entered."""
        self._clock = clock or SystemClock()
        self.faults = FaultEngine(self._clock, self.settings.faults, self.settings.fault_seed)
        self._signer = WebhookSigner(self.settings.webhook_secret or new_secret())
        self._stack = AsyncExitStack()
        self._url = ""
        self.ca_file: Path | None = None
        """With `tls`, the certificate (PEM) that clients must trust; there once it was entered."""

    @property
    def url(self) -> str:
        """Origin it listens on, such as `http://127.0.0.1:8787`, without a trailing slash."""
        return self._url

    @property
    def base_url(self) -> str:
        """Base URL of the API, for Replicate clients."""
        return f"{self.url}/v1"

    async def __aenter__(self) -> Self:
        """Listen.

        Raises OSError if the address is taken or a file cannot be opened, ValueError if the price
        file cannot be used, ModuleNotFoundError with `tls` if `cryptography` is not installed.
        """
        async with AsyncExitStack() as stack:
            # Before the task group, which would wrap their errors in a group of its own.
            bill = stack.enter_context(_opened_bill(self.settings))
            listener = stack.enter_context(open_listener(self.settings))
            # No proxy, no cookies: webhooks go where they are told to and nowhere else.
            session = await stack.enter_async_context(
                aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
            )
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="mediagate-sandbox-")))
            uploads = Uploads(folder, self._clock, self.settings)
            group = await stack.enter_async_context(asyncio.TaskGroup())
            runner = Runner(group, self._clock)
            stack.callback(runner.stop)
            self.deliverer = WebhookDeliverer(
                group, session, self._clock, self._signer, self.settings, self.request_log
            )
            stack.callback(self.deliverer.stop)
            self._url, self.ca_file = listener.url, listener.ca_file
            application = self._application(runner, bill, uploads)
            await stack.enter_async_context(listener.serve(application, self.request_log))
            self._stack = stack.pop_all()
        log.info(
            "sandbox listens on %s, seed %d, fault seed %d",
            self.url,
            self.settings.seed,
            self.faults.seed,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening, close connections, stop all runs."""
        await self._stack.aclose()

    def _application(self, runner: Runner, bill: Bill, uploads: Uploads) -> web.Application:
        settings, clock, request_log = self.settings, self._clock, self.request_log
        catalog, store = load_catalog(), _store(settings, clock)
        cuts = StreamCuts(_ordered_cut(settings))
        rate_limit = RateLimitMiddleware(settings.rates, clock)
        parser = CreateRequestParser(settings, catalog)
        examples = ExamplePredictions(parser, catalog)
        output_files = OutputFiles(settings.media_cache_bytes, small=settings.small_files)
        files = UploadRoutes(settings, clock, uploads)
        self.deliverer.policy = choose_delivery_policy(self.faults, store)
        webhooks = WebhookRoutes(clock, self._signer)
        classifier = RequestClassifier(catalog, store, settings.deployments)
        faults = FaultMiddleware(self.faults, classifier, clock)
        # What every request passes, the outermost first.
        doors = (
            cors_middleware(),
            auth_middleware(settings, request_log),
            rate_limit.middleware(),
            faults.middleware(),
        )
        application = web.Application(middlewares=doors, client_max_size=settings.max_body_bytes)
        application.on_shutdown.append(faults.stop)
        application.on_response_prepare.append(add_cors_headers)
        predictions = PredictionRoutes(
            settings,
            clock,
            catalog,
            parser,
            store,
            examples,
            output_files,
            InputLinks(store, examples, uploads),
            runner,
            self.deliverer,
            request_log,
            bill,
        )
        for routes in (
            HtmlPageRoutes(settings, catalog, store, examples),
            # Before the uploads: the streams of files have keys that no upload's id looks like.
            StreamRoutes(settings, clock, store, cuts, request_log),
            predictions,
            webhooks,
            files,
            ModelRoutes(settings, catalog, request_log, examples),
            ModelSearchRoutes(settings, catalog, request_log, examples),
            AccountRoutes(),
            UnimplementedRoutes(),
            FileRoutes(store, examples, output_files),
        ):
            application.add_routes(routes.routes())
        if settings.control:
            beginning = SandboxReset(
                runner,
                self.deliverer,
                store,
                parser,
                uploads,
                self._signer,
                self.faults,
                cuts,
                rate_limit,
                request_log,
            )
            application.add_routes(self._control_routes(beginning, bill))
            application.add_routes([*webhooks.control_routes(), *files.control_routes()])
        return application

    def _control_routes(self, beginning: SandboxReset, bill: Bill) -> list[web.RouteDef]:
        """Return the control endpoints."""
        return [
            *ControlRoutes(self.settings, beginning).routes(),
            *BillRoutes(bill).routes(),
            *FaultRoutes(self.faults).routes(),
            *RateLimitRoutes(beginning.rate_limit).routes(),
            *PredictionEditRoutes(beginning.store).routes(),
        ]


async def run(
    settings: SandboxSettings, *, started: Callable[[Sandbox], None] | None = None
) -> None:
    """Serve until SIGINT or SIGTERM; `started` is called once the sandbox listens.

    Raises OSError if the address is taken.
    """
    await serve(Sandbox(settings), started or (lambda _: None))


async def serve(
    server: AbstractAsyncContextManager[Server], started: Callable[[Server], None]
) -> None:
    """Enter a server and stay until SIGINT or SIGTERM; `started` is called in between."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        async with server as running:
            started(running)
            await stop.wait()
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)


@contextmanager
def _opened_bill(settings: SandboxSettings) -> Iterator[Bill]:
    """Create the bill by the price files, appended to a file if the settings have one."""
    prices = load_price_list(settings.prices)
    if settings.bill_file is None:
        yield Bill(settings, prices)
        return
    with settings.bill_file.open("ab", buffering=0) as file:
        yield Bill(settings, prices, file)


def _store(settings: SandboxSettings, clock: Clock) -> Store:
    return Store(settings.keep_predictions, settings.keep_bytes, clock, settings.data_retention)


def _ordered_cut(settings: SandboxSettings) -> StreamCut | None:
    if settings.cut_streams_after_bytes is None:
        return None
    return StreamCut(settings.cut_streams_after_bytes, settings.cut_streams_times)
