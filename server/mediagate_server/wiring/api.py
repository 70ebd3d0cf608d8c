"""Wiring of the gRPC API: its server, its interceptors and its services."""

from dataclasses import dataclass
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mediagate_server.api.billable_call_handler import BillableCallHandler
from mediagate_server.api.interceptors.admission import (
    AdmissionInterceptor,
    ConcurrencyLimitInterceptor,
    ReceiveLimitInterceptor,
)
from mediagate_server.api.interceptors.authentication import ApiKeyAuthenticator, AuthInterceptor
from mediagate_server.api.interceptors.cost_trailer import MeteringInterceptor
from mediagate_server.api.interceptors.error_handler import ErrorInterceptor
from mediagate_server.api.interceptors.interceptor_chain import InterceptorChain
from mediagate_server.api.interceptors.metrics_and_access_log import RpcMetricsInterceptor
from mediagate_server.api.interceptors.rate_limit import RateLimitInterceptor
from mediagate_server.api.interceptors.request_validation import ValidationInterceptor
from mediagate_server.api.page_tokens import PageTokens
from mediagate_server.api.server_options import listen, server_options
from mediagate_server.api.service_registration import (
    SERVICES,
    STORE_BOUND_METHODS,
    UNIMPLEMENTED_METHODS,
    register_services,
)
from mediagate_server.api.services.admin import AdminService
from mediagate_server.api.services.health import HealthService
from mediagate_server.api.services.usage import UsageService
from mediagate_server.catalog.planning.schema_validation import SchemaValidator
from mediagate_server.catalog.published_models import PublishedModelRegistry
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.generations.inputs.input_files import InputFileUploader
from mediagate_server.generations.inputs.media_inputs import MediaInputs
from mediagate_server.media.module import MediaModule
from mediagate_server.observability import metrics
from mediagate_server.webhooks.dispatcher import WebhookDispatcher
from mediagate_server.wiring.dependencies import ServerDeps
from mediagate_server.wiring.upstream import UpstreamConnection

_PAGE_KEY: Final = "page-token"
"""The store's name for the key that page tokens are signed with."""


@dataclass(frozen=True, slots=True)
class GrpcApi:
    """The gRPC server, once it serves, and those of its parts that a drain needs.

    `address` is HOST:PORT or `unix:/path`.
    """

    server: grpc.aio.Server
    address: str
    health: HealthService
    rpc_metrics: RpcMetricsInterceptor
    errors: ErrorInterceptor


async def open_grpc_api(
    deps: ServerDeps,
    upstream: UpstreamConnection,
    published: PublishedModelRegistry,
    generations: GenerationEngine,
    media: MediaModule,
    webhooks: WebhookDispatcher,
) -> GrpcApi:
    """Register every service and serve. Whoever opens it drains and stops it."""
    settings, now = deps.settings, deps.clock.now
    health_service = HealthService(SERVICES)
    rpc_metrics, errors = RpcMetricsInterceptor(), ErrorInterceptor()
    chain = _interceptor_chain(deps, rpc_metrics, errors, is_sandbox=upstream.is_sandbox)
    server = grpc.aio.server(interceptors=[chain], options=server_options(settings))
    tokens = PageTokens(await deps.store.secret_key(_PAGE_KEY))
    register_services(
        server,
        catalog=deps.caller_catalog,
        calls=_billable_calls(deps, upstream, published, generations, media),
        generations=generations,
        media=media,
        usage=UsageService(deps.store, tokens, now),
        admin=AdminService(deps.store, deps.limits, webhooks, tokens, now),
        tokens=tokens,
        scheduler=deps.scheduler,
    )
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    if settings.reflection:
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    address = listen(server, settings.grpc_address)
    await server.start()
    return GrpcApi(server, address, health_service, rpc_metrics, errors)


def _interceptor_chain(
    deps: ServerDeps,
    rpc_metrics: RpcMetricsInterceptor,
    errors: ErrorInterceptor,
    *,
    is_sandbox: bool,
) -> InterceptorChain:
    """The interceptors, outermost first."""
    admission = AdmissionInterceptor(lambda: deps.settings.max_open_rpcs)
    metrics.rpcs_open.set_function(lambda: admission.open)
    deps.scheduler.is_open_beside = admission.has_other_open_rpcs
    interceptors = (
        rpc_metrics,
        errors,
        AuthInterceptor(ApiKeyAuthenticator(deps.limits.tenants)),
        admission,
        RateLimitInterceptor(deps.limits.requests_per_minute),
        ReceiveLimitInterceptor(deps.scheduler, seconds=lambda: deps.settings.receive_timeout),
        ConcurrencyLimitInterceptor(deps.scheduler, STORE_BOUND_METHODS),
        MeteringInterceptor(),
        ValidationInterceptor(
            allow_http_loopback=is_sandbox, webhooks=deps.egress_policy, scheduler=deps.scheduler
        ),
    )
    return InterceptorChain(interceptors, unimplemented=UNIMPLEMENTED_METHODS)


def _billable_calls(
    deps: ServerDeps,
    upstream: UpstreamConnection,
    published: PublishedModelRegistry,
    generations: GenerationEngine,
    media: MediaModule,
) -> BillableCallHandler:
    now = deps.clock.now
    inputs = MediaInputs(
        media.uploads,
        media.store,
        media.downloader,
        InputFileUploader(upstream.client, now),
        generation=generations.get,
        now=now,
    )
    return BillableCallHandler(
        deps.caller_catalog,
        published,
        SchemaValidator(deps.workers),
        generations,
        inputs,
        media.links,
        deps.timeouts,
        deps.limits.store_inputs,
        deps.scheduler,
        deps.limits.allows_next_when_unconfirmed,
    )
