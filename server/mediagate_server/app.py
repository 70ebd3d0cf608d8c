"""Composition root: class Server builds the parts of one server in order, and stops them.

Everything with a lifetime is entered on one AsyncExitStack, so that it ends in the opposite order:
ports first, then generations, then upstream, the store last.
"""

import asyncio
import contextlib
from contextlib import AsyncExitStack
from typing import Final, Self

from mediagate_server.api.connection_drain import (
    close_connections,
    has_connections,
    refuse_connections,
)
from mediagate_server.api.convert.responses import WebhookEventEncoder
from mediagate_server.catalog.live import LiveCatalog
from mediagate_server.config import Configuration, Settings
from mediagate_server.config.tenant_limits import TenantLimits
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.network.egress_policy import EgressPolicy
from mediagate_server.runtime.clock import Clock, SystemClock
from mediagate_server.runtime.fair_scheduler import FairScheduler
from mediagate_server.store.sqlite import DataFolderLost, SqliteStore
from mediagate_server.webhooks.dispatcher import WebhookDispatcher
from mediagate_server.webhooks.http_client import WebhookHttpClient
from mediagate_server.wiring.api import GrpcApi, open_grpc_api
from mediagate_server.wiring.dependencies import ServerDeps
from mediagate_server.wiring.generations import open_generations, open_media
from mediagate_server.wiring.http import bind_public_http, open_operations_http, serve_public_http
from mediagate_server.wiring.upstream import open_published_models, open_upstream
from mediagate_server.workers.worker_pool import WorkerPool

_QUIET_SECONDS: Final = 0.5
"""Time for clients to notice the drain, by health checks or by a refusal: a tenth of the drain, and
at most so long."""
_FLUSH_SECONDS: Final = 0.05
"""gRPC writes the last responses once their handlers have ended."""
_LAST_SECONDS: Final = 2.0
"""How long rpcs may still take once they are ended with DRAINING."""


class Server:
    """One running server, an async context manager.

    `async with Server(configuration) as server: await server.until_stopped()`, and then
    `server.check_ownership()`. `clock` is the time that generations, outputs and links live by;
    unset: the machine's.
    """

    def __init__(self, configuration: Configuration, clock: Clock | None = None) -> None:
        """Raises ConfigError."""
        self._configuration = configuration
        self._clock = clock or SystemClock()
        self._limits = TenantLimits(configuration)
        self._catalog = LiveCatalog(configuration)
        self._stack = AsyncExitStack()
        self._stop_requested = asyncio.Event()
        self._ready = False
        self.grpc_address = ""
        self.operations_address = ""
        self.web_address = ""
        self.upstream = ""
        """The upstream, in a few words for people."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._build(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def stop(self) -> None:
        """Request a graceful shutdown."""
        self._stop_requested.set()

    async def until_stopped(self) -> None:
        """Wait until a shutdown is requested, or another server takes over the data folder."""
        events = (self._stop_requested, self._deps.store.lost)
        waits = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def check_ownership(self) -> None:
        """Raises DataFolderLost where another server took over the data folder."""
        if self._deps.store.lost.happened:
            raise DataFolderLost(self._deps.settings.data_dir)

    async def _build(self, stack: AsyncExitStack) -> None:
        deps = self._deps = await self._open_dependencies(stack)
        upstream = await open_upstream(deps, stack)
        self.upstream = upstream.description
        public = await bind_public_http(deps, stack, upstream)
        self.web_address = public.address
        media = await open_media(deps, stack, upstream_url=upstream.base_url, public_url=public.url)
        webhooks = await self._open_webhooks(stack, WebhookEventEncoder(media.links))
        generations = await open_generations(deps, stack, upstream, media, public.webhook_urls)
        await serve_public_http(deps, stack, public, upstream, media, generations)
        published = await open_published_models(deps, stack, upstream)
        api = self._api = await open_grpc_api(
            deps, upstream, published, generations, media, webhooks
        )
        stack.push_async_callback(self._drain, api, generations)
        self.grpc_address = api.address
        self.operations_address = await open_operations_http(
            deps, stack, lambda: "" if self._ready else "not ready"
        )
        self._ready = True

    async def _open_dependencies(self, stack: AsyncExitStack) -> ServerDeps:
        """Open the store and the workers, as soon as the settings are known to be safe."""
        settings, limits = self._configuration.current, self._limits
        self._configuration.check_with(Settings.check_exposure)
        settings.check_public_url()
        store = SqliteStore(
            settings.data_dir,
            lease_seconds=settings.lease_seconds,
            budgets=limits.budgets,
            budget_webhook=limits.webhook_url,
        )
        return ServerDeps(
            self._configuration,
            self._clock,
            limits,
            self._catalog,
            FairScheduler(),
            EgressPolicy(settings.webhook_networks),
            await stack.enter_async_context(store),
            await stack.enter_async_context(WorkerPool()),
        )

    async def _open_webhooks(
        self, stack: AsyncExitStack, encoder: WebhookEventEncoder
    ) -> WebhookDispatcher:
        """Start to send callers their webhooks."""
        store = self._deps.store
        http_client = WebhookHttpClient(self._deps.egress_policy)
        dispatcher = WebhookDispatcher(
            store.outbox,
            store.get,
            await stack.enter_async_context(http_client),
            encoder.encode,
            self._clock,
        )
        return await stack.enter_async_context(dispatcher)

    async def _drain(self, api: GrpcApi, generations: GenerationEngine) -> None:
        """Graceful shutdown of the API: end the rpcs with DRAINING, then stop the gRPC server.

        Health says so first, and nobody's wait goes on. Nothing is cancelled upstream. The server
        takes calls all the while, and refuses what would begin something: see api.connection_drain
        for what becomes of a call that it has not taken when it stops.
        """
        self._ready = False
        api.health.enter_graceful_shutdown()
        generations.drain()
        try:
            if has_connections(api.address):
                await self._disconnect_callers(api)
        finally:
            await api.server.stop(_LAST_SECONDS)
            # `stop` does not wait for what handlers still have to close.
            await _wait_until_idle(api, _LAST_SECONDS)

    async def _disconnect_callers(self, api: GrpcApi) -> None:
        """End whatever is not over in time with DRAINING, then close the connections."""
        seconds = self._configuration.current.drain_seconds
        quiet = min(seconds / 10, _QUIET_SECONDS)
        await asyncio.sleep(quiet)
        await _wait_until_idle(api, seconds - quiet)
        api.errors.end_all()
        await _wait_until_idle(api, _LAST_SECONDS)
        await asyncio.sleep(_FLUSH_SECONDS)
        refuse_connections(api.address)
        close_connections(api.address)


async def _wait_until_idle(api: GrpcApi, seconds: float) -> None:
    """Wait until no rpc is open, for so long at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await api.rpc_metrics.wait_until_idle()
