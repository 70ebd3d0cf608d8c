"""The composition root: what is built, in what order, and in what order it stops.

Everything with a lifetime is entered on one AsyncExitStack, so that it ends in the opposite order:
doors first, then generations, then upstream, the store last.
"""

import asyncio
import contextlib
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import date
from functools import partial
from types import TracebackType
from typing import Final, Self

import grpc
import structlog
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mediagate_server import caller, telemetry
from mediagate_server.as_set import AsSet, timing_of
from mediagate_server.callbacks.sender import sending
from mediagate_server.catalog import ages
from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.checking import CatalogWatch
from mediagate_server.catalog.live import LiveCatalog
from mediagate_server.catalog.published import PublishedModels
from mediagate_server.catalog.schema_checks import SchemaChecks
from mediagate_server.config import Configuration, Settings
from mediagate_server.config.address import listening
from mediagate_server.config.limits import TenantLimits
from mediagate_server.crash_marks import CrashMarks
from mediagate_server.generations.answer_checks import AnswerChecks
from mediagate_server.generations.clock import Clock, SystemClock
from mediagate_server.generations.doors import Surroundings, no_webhook
from mediagate_server.generations.generations import Generations
from mediagate_server.generations.handing_over import HandingOver
from mediagate_server.generations.media_inputs import MediaInputs
from mediagate_server.grpc_connections import (
    close_connections,
    has_connections,
    refuse_connections,
)
from mediagate_server.grpc_options import listen, server_options
from mediagate_server.http.media import MediaDoor
from mediagate_server.http.operations import OperationsPort
from mediagate_server.http.web import WebPort
from mediagate_server.http.webhooks import Webhooks
from mediagate_server.interceptors.inbound.admission import Admission
from mediagate_server.interceptors.inbound.auth import Auth
from mediagate_server.interceptors.inbound.chain import Chain
from mediagate_server.interceptors.inbound.errors import Errors
from mediagate_server.interceptors.inbound.keys import Keys
from mediagate_server.interceptors.inbound.metering import Metering
from mediagate_server.interceptors.inbound.observe import Observe
from mediagate_server.interceptors.inbound.rate_limit import RateLimit
from mediagate_server.interceptors.inbound.receive import Receive
from mediagate_server.interceptors.inbound.validate import Validate
from mediagate_server.interceptors.inbound.work_limit import WorkLimit
from mediagate_server.interceptors.outbound.call import OTHER
from mediagate_server.interceptors.outbound.chain import Outbound
from mediagate_server.interceptors.outbound.settings import OutboundSettings
from mediagate_server.internet import Reach
from mediagate_server.loop_share import LoopShare
from mediagate_server.outputs.bucket import Bucket
from mediagate_server.outputs.media import Media
from mediagate_server.replicate.client import ReplicateClient
from mediagate_server.replicate.settings import ReplicateSettings
from mediagate_server.replicate.webhook_secrets import WebhookSecrets
from mediagate_server.replicate.webhooks import WebhookAddresses
from mediagate_server.services.admin import AdminService
from mediagate_server.services.callbacks import EventTexts
from mediagate_server.services.health import HealthService
from mediagate_server.services.paging import PageTokens
from mediagate_server.services.paid import PaidCalls
from mediagate_server.services.served import SERVICES, STORE_METHODS, add_services
from mediagate_server.services.unbuilt import NOT_BUILT_METHODS
from mediagate_server.services.usage import UsageService
from mediagate_server.store.budget_metrics import show_standing
from mediagate_server.store.sqlite import DataFolderLost, SqliteStore
from mediagate_server.worker_processes import WorkerProcesses

_log = structlog.get_logger()

_WEBHOOK_KEY: Final = "webhook-url"
"""The store's name for the key under which the addresses of webhooks are ours."""
_MEDIA_KEY: Final = "media-url"
"""The same for the key that links to media are signed with."""
_HASH_KEY: Final = "input-hash"
"""The same for the key of hashes that stand for what was asked."""
_PAGE_KEY: Final = "page-token"
"""The same for the key that page tokens are signed with."""

_QUIET_SECONDS: Final = 0.5
"""At most so long, and a tenth of the drain, clients are given to learn of it: they have health
checks, and whoever was told to come again later does."""
_FLUSH_SECONDS: Final = 0.05
"""gRPC writes the last answers once their handlers have ended."""
_LAST_SECONDS: Final = 2.0
"""How long rpcs that were told to end may still take to do so."""


@dataclass(frozen=True, slots=True)
class _Upstream:
    """Who answers: where, by which way, and whether nothing of it is real."""

    base_url: str
    outbound: Outbound
    sandboxed: bool


class Gate:
    """One running gate. `async with Gate(configuration) as gate: await gate.until_stopped()`, and
    then `gate.check_hold()`.

    `clock` is the time that generations, outputs and links live by; unset: the machine's.
    """

    def __init__(self, configuration: Configuration, clock: Clock | None = None) -> None:
        self._configuration = configuration
        self._clock = clock or SystemClock()
        self._reach = Reach(configuration.current.webhook_networks)
        self._stack = AsyncExitStack()
        self._health = HealthService(SERVICES)
        self._limits = TenantLimits(configuration)
        self._set = AsSet(configuration, self._limits)
        self._catalog = LiveCatalog(configuration)
        self._observe = Observe()
        self._errors = Errors()
        self._share = LoopShare()
        self._stop = asyncio.Event()
        self._ready = False
        self.grpc_address = ""
        self.operations_address = ""
        self.web_address = ""
        self.upstream = ""
        """Who answers, in a few words for people."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._build(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def stop(self) -> None:
        """Ask for an orderly end."""
        self._stop.set()

    async def until_stopped(self) -> None:
        """Until somebody asked for the end, or another gate took over the data folder."""
        ends = [asyncio.create_task(e.wait()) for e in (self._stop, self._store.lost)]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    def check_hold(self) -> None:
        """Raises DataFolderLost where another gate took over."""
        if self._store.lost.is_set():
            raise DataFolderLost(self._configuration.current.data_dir)

    async def _build(self, stack: AsyncExitStack) -> None:
        settings, clock = self._configuration.current, self._clock
        self._configuration.check_with(Settings.check_exposure)
        settings.check_public_url()
        store = self._store = await self._open_store(stack)
        self._workers = await stack.enter_async_context(WorkerProcesses())
        # Apart: reading a large answer may take a minute, and a check that a caller waits for not.
        self._body_workers = await stack.enter_async_context(WorkerProcesses())
        upstream = await self._open_upstream(stack)
        outbound, sandboxed = upstream.outbound, upstream.sandboxed
        port = self._web_port(stack, sandboxed=sandboxed)
        web_url = (settings.public_url or port.near_url) if port else ""
        media = await self._open_media(stack, upstream.base_url, web_url)
        sender = await stack.enter_async_context(
            sending(store.outbox, store, EventTexts(media.links).render, self._reach, clock)
        )
        addresses = None
        if settings.public_url or sandboxed:
            # Without a public URL only the embedded sandbox reaches the port, by loopback.
            addresses = WebhookAddresses(web_url, await store.key(_WEBHOOK_KEY))
        generations = await self._open_generations(stack, upstream, media, addresses)
        if port:
            port.add(MediaDoor(media.links, media.store, clock.now, self._share).routes())
            if addresses:
                port.add(self._webhooks(outbound, addresses, generations).routes())
            await stack.enter_async_context(port)
        published = PublishedModels(
            outbound,
            knows_official=lambda slug: self._catalog.current().has_official(slug),
            suggest=lambda name: self._catalog.current().nearest(name, slugs=True),
        )
        await self._watch_catalog(stack, published, clock)
        calls = self._paid_calls(outbound, published, generations, media)
        tokens = self._tokens = PageTokens(await store.key(_PAGE_KEY))
        usage = UsageService(store, tokens, clock.now)
        admin = AdminService(store, self._limits, sender, tokens, clock.now)
        await self._open_grpc(stack, generations, calls, media, (usage, admin), sandboxed=sandboxed)
        await self._open_operations(stack)
        self._ready = True

    async def _open_store(self, stack: AsyncExitStack) -> SqliteStore:
        settings = self._configuration.current
        store = SqliteStore(
            settings.data_dir,
            lease_seconds=settings.lease_seconds,
            budgets=self._limits.budgets,
            budget_webhook=self._limits.webhook_url,
        )
        return await stack.enter_async_context(store)

    async def _open_upstream(self, stack: AsyncExitStack) -> _Upstream:
        """Who answers, and everything that stands around each request to it."""
        settings = self._configuration.current
        choice = settings.upstream_choice()
        base_url = choice.base_url
        sandboxed = choice.kind == "sandbox"
        self.upstream = f"Replicate's API at {base_url}"
        if sandboxed:
            # The one line in which the server knows of the sandbox.
            from mediagate_sandbox.server import Sandbox, SandboxSettings  # noqa: PLC0415

            sandbox = Sandbox(SandboxSettings(port=0, webhooks_over_http=True))
            base_url = (await stack.enter_async_context(sandbox)).base_url
            self.upstream = "the embedded sandbox: nothing is paid, nothing is real"
        client = ReplicateClient(
            ReplicateSettings(
                base_url=base_url,
                token=choice.token,
                connect_timeout=settings.upstream_connect_timeout,
                create_timeout=settings.upstream_create_timeout,
                read_timeout=settings.upstream_read_timeout,
                upload_timeout=settings.upstream_upload_timeout,
                max_streams=settings.upstream_max_streams,
                body_folder=settings.data_dir / "answers",
            ),
            self._body_workers,
            self._share,
        )
        outbound = Outbound(
            await stack.enter_async_context(client),
            OutboundSettings(
                settings.creates_per_minute,
                settings.reads_per_minute,
                settings.upstream_max_streams,
            ),
            label=self._label,
        )
        return _Upstream(base_url, outbound, sandboxed)

    async def _open_media(self, stack: AsyncExitStack, base_url: str, web_url: str) -> Media:
        settings, clock = self._configuration.current, self._clock
        media = Media(
            settings.data_dir / "media",
            base_url,
            self._set.media_limits,
            now=clock.now,
            sleep=clock.sleep,
            bucket=Bucket.of(settings),
            web=web_url,
            key=await self._store.key(_MEDIA_KEY),
            share=self._share,
            workers=self._workers,
        )
        return await stack.enter_async_context(media)

    async def _open_generations(
        self,
        stack: AsyncExitStack,
        upstream: _Upstream,
        media: Media,
        addresses: WebhookAddresses | None,
    ) -> Generations:
        settings = self._configuration.current
        around = Surroundings(
            self._store,
            upstream.outbound,
            upstream.outbound.create_policy,
            media.keeper,
            account=settings.upstream_account,
            exclusive=settings.upstream_exclusive,
            playback=settings.upstream_playback,
            sandbox=upstream.sandboxed,
            creates_per_second=settings.creates_per_minute / 60,
            clock=self._clock,
            read_answer=AnswerChecks(self._workers).read,
            crash_marks=stack.enter_context(CrashMarks(settings.data_dir / "crash-marks")),
            hash_key=await self._store.key(_HASH_KEY),
            timing=timing_of(settings),
            webhook_url=addresses.of if addresses else no_webhook,
        )
        generations = Generations(
            around, max_in_flight=self._limits.max_in_flight, retention=self._set.retention
        )
        return await stack.enter_async_context(generations)

    def _webhooks(
        self, outbound: Outbound, addresses: WebhookAddresses, generations: Generations
    ) -> Webhooks:
        """Where upstream tells of what it has done."""
        return Webhooks(
            addresses,
            WebhookSecrets(outbound.webhook_secret, self._set.webhook_secrets),
            self._store.saw_webhook,
            self._store.claim_webhook,
            generations.hint,
            self._clock.now,
        )

    def _paid_calls(
        self,
        outbound: Outbound,
        published: PublishedModels,
        generations: Generations,
        media: Media,
    ) -> PaidCalls:
        now = self._clock.now
        inputs = MediaInputs(
            media.uploads,
            media.store,
            media.fetcher,
            HandingOver(outbound, now),
            generation=generations.get,
            now=now,
        )
        return PaidCalls(
            self._callers_catalog,
            published,
            SchemaChecks(self._workers),
            generations,
            inputs,
            media.links,
            self._set.timeouts,
            self._set.store_inputs,
            self._share,
            self._limits.allows_next_when_unconfirmed,
        )

    def _callers_catalog(self) -> Catalog:
        """The catalog as it counts for the tenant that calls."""
        allowed = self._limits.allow_assumed_prices(caller.current().tenant)
        return self._catalog.allowing(assumed=allowed)

    async def _watch_catalog(
        self, stack: AsyncExitStack, published: PublishedModels, clock: Clock
    ) -> None:
        """Compares the catalog with upstream now and then; its ages are counted when asked for."""

        def today() -> date:
            return clock.now().date()

        def priced() -> tuple[int, int]:
            return ages.counts(self._catalog.current().models(), today())

        telemetry.catalog_old_prices.set_function(lambda: priced()[0])
        telemetry.catalog_unknown_prices.set_function(lambda: priced()[1])
        await stack.enter_async_context(
            CatalogWatch(
                self._catalog.current,
                published.find,
                hours=lambda: self._configuration.current.catalog_check_hours,
                today=today,
                count=lambda kind, found: telemetry.catalog_findings.labels(kind.value).set(found),
            )
        )

    def _web_port(self, stack: AsyncExitStack, *, sandboxed: bool) -> WebPort | None:
        """The web port; None where nobody would know of it: no address of it was set."""
        settings = self._configuration.current
        if not (settings.public_url or sandboxed or "web_address" in settings.model_fields_set):
            return None
        with listening("web_address", settings.web_address):
            port = WebPort(settings.web_address)
        stack.callback(port.close)
        self.web_address = port.address
        return port

    async def _open_grpc(
        self,
        stack: AsyncExitStack,
        generations: Generations,
        calls: PaidCalls,
        media: Media,
        about_tenants: tuple[UsageService, AdminService],
        *,
        sandboxed: bool,
    ) -> None:
        settings = self._configuration.current
        server = grpc.aio.server(
            interceptors=[self._chain(sandboxed=sandboxed)], options=server_options(settings)
        )
        add_services(
            server,
            catalog=self._callers_catalog,
            calls=calls,
            generations=generations,
            media=media,
            usage=about_tenants[0],
            admin=about_tenants[1],
            tokens=self._tokens,
            share=self._share,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if settings.reflection:
            names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        self.grpc_address = listen(server, settings.grpc_address)
        await server.start()
        stack.push_async_callback(self._drain, server, generations)

    async def _open_operations(self, stack: AsyncExitStack) -> None:
        address = self._configuration.current.ops_address
        refresh = partial(show_standing, self._store, self._limits.tenants, self._clock.now)
        port = OperationsPort(address, lambda: "" if self._ready else "not ready", refresh)
        with listening("ops_address", address):
            await stack.enter_async_context(port)
        self.operations_address = port.address

    def _chain(self, *, sandboxed: bool) -> Chain:
        admission = Admission(lambda: self._configuration.current.max_open_rpcs)
        telemetry.rpcs_open.set_function(lambda: admission.open)
        self._share.is_open_beside = admission.is_open_beside
        concerns = (
            self._observe,
            self._errors,
            Auth(Keys(self._limits.tenants)),
            admission,
            RateLimit(self._limits.requests_per_minute),
            Receive(self._share, seconds=lambda: self._configuration.current.receive_timeout),
            WorkLimit(self._share, STORE_METHODS),
            Metering(),
            Validate(allow_http_loopback=sandboxed, webhooks=self._reach, share=self._share),
        )
        return Chain(concerns, not_built=NOT_BUILT_METHODS)

    def _label(self, model: str) -> str:
        """What a metric calls a model: its slug, if the catalog has it."""
        return model if self._catalog.current().with_slug(model) else OTHER

    async def _drain(self, server: grpc.aio.Server, generations: Generations) -> None:
        """Say so, let nobody wait, end the rpcs with DRAINING. Nothing is cancelled upstream.

        The server takes calls all the while, and refuses what would begin something: see
        grpc_connections for what becomes of a call that it has not taken when it stops.
        """
        self._ready = False
        self._health.enter_graceful_shutdown()
        generations.drain()
        try:
            if has_connections(self.grpc_address):
                await self._send_away()
        finally:
            await server.stop(_LAST_SECONDS)
            # `stop` does not wait for what handlers still have to close.
            await self._until_idle(_LAST_SECONDS)

    async def _send_away(self) -> None:
        """End whatever is not over in time with DRAINING, then close the connections."""
        seconds = self._configuration.current.drain_seconds
        quiet = min(seconds / 10, _QUIET_SECONDS)
        await asyncio.sleep(quiet)
        await self._until_idle(seconds - quiet)
        self._errors.end_all()
        await self._until_idle(_LAST_SECONDS)
        await asyncio.sleep(_FLUSH_SECONDS)
        refuse_connections(self.grpc_address)
        close_connections(self.grpc_address)

    async def _until_idle(self, seconds: float) -> None:
        """Until no rpc is open, or so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._observe.idle()
