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

from mediagate_server.api.billable_calls import BillableCallHandler
from mediagate_server.api.convert.responses import WebhookEventEncoder
from mediagate_server.api.grpc_server import (
    close_connections,
    has_connections,
    listen,
    refuse_connections,
    server_options,
)
from mediagate_server.api.interceptors.admission import (
    AdmissionInterceptor,
    ConcurrencyLimitInterceptor,
    ReceiveLimitInterceptor,
)
from mediagate_server.api.interceptors.authentication import ApiKeyAuthenticator, AuthInterceptor
from mediagate_server.api.interceptors.chain import InterceptorChain
from mediagate_server.api.interceptors.error_handler import ErrorInterceptor
from mediagate_server.api.interceptors.metering import MeteringInterceptor
from mediagate_server.api.interceptors.rate_limit import RateLimitInterceptor
from mediagate_server.api.interceptors.request_validation import ValidationInterceptor
from mediagate_server.api.interceptors.rpc_metrics import RpcMetricsInterceptor
from mediagate_server.api.page_tokens import PageTokens
from mediagate_server.api.registration import (
    SERVICES,
    STORE_BOUND_METHODS,
    UNIMPLEMENTED_METHODS,
    register_services,
)
from mediagate_server.api.services.admin import AdminService
from mediagate_server.api.services.health import HealthService
from mediagate_server.api.services.usage import UsageService
from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.drift_monitor import CatalogDriftMonitor
from mediagate_server.catalog.live import LiveCatalog
from mediagate_server.catalog.planning.schema_validation import SchemaValidator
from mediagate_server.catalog.published import drift
from mediagate_server.catalog.published.model_registry import PublishedModels
from mediagate_server.config import Configuration, Settings
from mediagate_server.config.address import explain_listen_error
from mediagate_server.config.tenant_limits import TenantLimits
from mediagate_server.context import caller
from mediagate_server.generations.dependencies import EngineDeps, no_webhook_url
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.generations.inputs.input_files import InputFileUploader
from mediagate_server.generations.inputs.media_inputs import MediaInputs
from mediagate_server.generations.outputs.json_output_validation import JsonAnswerValidator
from mediagate_server.http.media_routes import MediaRoutes
from mediagate_server.http.replicate_webhooks import ReplicateWebhookRoutes
from mediagate_server.http.servers import OperationsHttpServer, PublicHttpServer
from mediagate_server.media.module import MediaModule
from mediagate_server.media.object_storage import BucketSettings
from mediagate_server.network.egress_policy import EgressPolicy
from mediagate_server.observability import metrics
from mediagate_server.observability.metrics import OTHER_MODEL
from mediagate_server.runtime.clock import Clock, SystemClock
from mediagate_server.runtime.crash_marks import CrashMarks
from mediagate_server.runtime.fair_scheduler import FairScheduler
from mediagate_server.store.budget_metrics import refresh_budget_gauges
from mediagate_server.store.sqlite import DataFolderLost, SqliteStore
from mediagate_server.upstream.policies.resilient_upstream import ResilientUpstream
from mediagate_server.upstream.replicate.client import ReplicateClient
from mediagate_server.upstream.replicate.webhook_verification import WebhookSecrets, WebhookUrls
from mediagate_server.upstream.settings import ReplicateSettings, UpstreamLimits
from mediagate_server.webhooks.dispatcher import running_dispatcher
from mediagate_server.wiring.live_settings import LiveSettings, engine_timeouts
from mediagate_server.workers.worker_pool import WorkerPool

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
class UpstreamSetup:
    """Who answers: where, by which way, and whether nothing of it is real."""

    base_url: str
    outbound: ResilientUpstream
    sandboxed: bool


class Server:
    """One running gate. `async with Gate(configuration) as gate: await gate.until_stopped()`, and
    then `gate.check_hold()`.

    `clock` is the time that generations, outputs and links live by; unset: the machine's.
    """

    def __init__(self, configuration: Configuration, clock: Clock | None = None) -> None:
        self._configuration = configuration
        self._clock = clock or SystemClock()
        self._reach = EgressPolicy(configuration.current.webhook_networks)
        self._stack = AsyncExitStack()
        self._health = HealthService(SERVICES)
        self._limits = TenantLimits(configuration)
        self._set = LiveSettings(configuration, self._limits)
        self._catalog = LiveCatalog(configuration)
        self._observe = RpcMetricsInterceptor()
        self._errors = ErrorInterceptor()
        self._share = FairScheduler()
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

    def check_ownership(self) -> None:
        """Raises DataFolderLost where another gate took over."""
        if self._store.lost.is_set():
            raise DataFolderLost(self._configuration.current.data_dir)

    async def _build(self, stack: AsyncExitStack) -> None:
        settings, clock = self._configuration.current, self._clock
        self._configuration.check_with(Settings.check_exposure)
        settings.check_public_url()
        store = self._store = await self._open_store(stack)
        self._workers = await stack.enter_async_context(WorkerPool())
        # Apart: reading a large answer may take a minute, and a check that a caller waits for not.
        self._body_workers = await stack.enter_async_context(WorkerPool())
        upstream = await self._open_upstream(stack)
        outbound, sandboxed = upstream.outbound, upstream.sandboxed
        port = self._web_port(stack, sandboxed=sandboxed)
        web_url = (settings.public_url or port.near_url) if port else ""
        media = await self._open_media(stack, upstream.base_url, web_url)
        sender = await stack.enter_async_context(
            running_dispatcher(
                store.outbox, store, WebhookEventEncoder(media.links).encode, self._reach, clock
            )
        )
        addresses = None
        if settings.public_url or sandboxed:
            # Without a public URL only the embedded sandbox reaches the port, by loopback.
            addresses = WebhookUrls(web_url, await store.secret_key(_WEBHOOK_KEY))
        generations = await self._open_generations(stack, upstream, media, addresses)
        if port:
            port.add(MediaRoutes(media.links, media.store, clock.now, self._share).routes())
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
        tokens = self._tokens = PageTokens(await store.secret_key(_PAGE_KEY))
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

    async def _open_upstream(self, stack: AsyncExitStack) -> UpstreamSetup:
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
        outbound = ResilientUpstream(
            await stack.enter_async_context(client),
            UpstreamLimits(
                settings.creates_per_minute,
                settings.reads_per_minute,
                settings.upstream_max_streams,
            ),
            label=self._register_model_labels,
        )
        return UpstreamSetup(base_url, outbound, sandboxed)

    async def _open_media(self, stack: AsyncExitStack, base_url: str, web_url: str) -> MediaModule:
        settings, clock = self._configuration.current, self._clock
        media = MediaModule(
            settings.data_dir / "media",
            base_url,
            self._set.media_limits,
            now=clock.now,
            sleep=clock.sleep,
            bucket=BucketSettings.from_settings(settings),
            web=web_url,
            key=await self._store.secret_key(_MEDIA_KEY),
            share=self._share,
            workers=self._workers,
        )
        return await stack.enter_async_context(media)

    async def _open_generations(
        self,
        stack: AsyncExitStack,
        upstream: UpstreamSetup,
        media: MediaModule,
        addresses: WebhookUrls | None,
    ) -> GenerationEngine:
        settings = self._configuration.current
        around = EngineDeps(
            self._store,
            upstream.outbound,
            upstream.outbound.create_policy,
            media.keeper,
            account=settings.upstream_account,
            is_account_exclusive=settings.upstream_exclusive,
            is_playback=settings.upstream_playback,
            is_sandbox=upstream.sandboxed,
            creates_per_second=settings.creates_per_minute / 60,
            clock=self._clock,
            read_json_answer=JsonAnswerValidator(self._workers).read,
            crash_marks=stack.enter_context(CrashMarks(settings.data_dir / "crash-marks")),
            hash_key=await self._store.secret_key(_HASH_KEY),
            timeouts=engine_timeouts(settings),
            webhook_url=addresses.url_for if addresses else no_webhook_url,
        )
        generations = GenerationEngine(
            around, max_in_flight=self._limits.max_in_flight, retention=self._set.retention
        )
        return await stack.enter_async_context(generations)

    def _webhooks(
        self, outbound: ResilientUpstream, addresses: WebhookUrls, generations: GenerationEngine
    ) -> ReplicateWebhookRoutes:
        """Where upstream tells of what it has done."""
        return ReplicateWebhookRoutes(
            addresses,
            WebhookSecrets(outbound.webhook_secret, self._set.webhook_secrets),
            self._store.has_webhook,
            self._store.claim_webhook,
            generations.on_webhook,
            self._clock.now,
        )

    def _paid_calls(
        self,
        outbound: ResilientUpstream,
        published: PublishedModels,
        generations: GenerationEngine,
        media: MediaModule,
    ) -> BillableCallHandler:
        now = self._clock.now
        inputs = MediaInputs(
            media.uploads,
            media.store,
            media.fetcher,
            InputFileUploader(outbound, now),
            generation=generations.get,
            now=now,
        )
        return BillableCallHandler(
            self._callers_catalog,
            published,
            SchemaValidator(self._workers),
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
        allowed = self._limits.allow_assumed_prices(caller.current_caller().tenant)
        return self._catalog.for_assumed_prices(assumed=allowed)

    async def _watch_catalog(
        self, stack: AsyncExitStack, published: PublishedModels, clock: Clock
    ) -> None:
        """Compares the catalog with upstream now and then; its ages are counted when asked for."""

        def today() -> date:
            return clock.now().date()

        def priced() -> tuple[int, int]:
            return drift.count_price_ages(self._catalog.current().models(), today())

        metrics.catalog_old_prices.set_function(lambda: priced()[0])
        metrics.catalog_unknown_prices.set_function(lambda: priced()[1])
        await stack.enter_async_context(
            CatalogDriftMonitor(
                self._catalog.current,
                published.find,
                hours=lambda: self._configuration.current.catalog_check_hours,
                today=today,
                count=lambda kind, found: metrics.catalog_findings.labels(kind.value).set(found),
            )
        )

    def _web_port(self, stack: AsyncExitStack, *, sandboxed: bool) -> PublicHttpServer | None:
        """The web port; None where nobody would know of it: no address of it was set."""
        settings = self._configuration.current
        if not (settings.public_url or sandboxed or "web_address" in settings.model_fields_set):
            return None
        with explain_listen_error("web_address", settings.web_address):
            port = PublicHttpServer(settings.web_address)
        stack.callback(port.close)
        self.web_address = port.address
        return port

    async def _open_grpc(
        self,
        stack: AsyncExitStack,
        generations: GenerationEngine,
        calls: BillableCallHandler,
        media: MediaModule,
        about_tenants: tuple[UsageService, AdminService],
        *,
        sandboxed: bool,
    ) -> None:
        settings = self._configuration.current
        server = grpc.aio.server(
            interceptors=[self._chain(sandboxed=sandboxed)], options=server_options(settings)
        )
        register_services(
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
        stack.push_async_callback(self.drain_calls, server, generations)

    async def _open_operations(self, stack: AsyncExitStack) -> None:
        address = self._configuration.current.ops_address
        refresh = partial(refresh_budget_gauges, self._store, self._limits.tenants, self._clock.now)
        port = OperationsHttpServer(address, lambda: "" if self._ready else "not ready", refresh)
        with explain_listen_error("ops_address", address):
            await stack.enter_async_context(port)
        self.operations_address = port.address

    def _chain(self, *, sandboxed: bool) -> InterceptorChain:
        admission = AdmissionInterceptor(lambda: self._configuration.current.max_open_rpcs)
        metrics.rpcs_open.set_function(lambda: admission.open)
        self._share.is_open_beside = admission.has_other_open_rpcs
        concerns = (
            self._observe,
            self._errors,
            AuthInterceptor(ApiKeyAuthenticator(self._limits.tenants)),
            admission,
            RateLimitInterceptor(self._limits.requests_per_minute),
            ReceiveLimitInterceptor(
                self._share, seconds=lambda: self._configuration.current.receive_timeout
            ),
            ConcurrencyLimitInterceptor(self._share, STORE_BOUND_METHODS),
            MeteringInterceptor(),
            ValidationInterceptor(
                allow_http_loopback=sandboxed, webhooks=self._reach, share=self._share
            ),
        )
        return InterceptorChain(concerns, not_built=UNIMPLEMENTED_METHODS)

    def _register_model_labels(self, model: str) -> str:
        """What a metric calls a model: its slug, if the catalog has it."""
        return model if self._catalog.current().with_slug(model) else OTHER_MODEL

    async def drain_calls(self, server: grpc.aio.Server, generations: GenerationEngine) -> None:
        """Say so, let nobody wait, end the rpcs with DRAINING. Nothing is cancelled upstream.

        The server takes calls all the while, and refuses what would begin something: see
        grpc_server for what becomes of a call that it has not taken when it stops.
        """
        self._ready = False
        self._health.enter_graceful_shutdown()
        generations.drain()
        try:
            if has_connections(self.grpc_address):
                await self._disconnect_callers()
        finally:
            await server.stop(_LAST_SECONDS)
            # `stop` does not wait for what handlers still have to close.
            await self._until_idle(_LAST_SECONDS)

    async def _disconnect_callers(self) -> None:
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
                await self._observe.wait_until_idle()
