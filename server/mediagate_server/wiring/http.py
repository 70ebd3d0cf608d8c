"""Wiring of the HTTP ports: the public one, for links to media and upstream's webhooks, and the
operator's, for health and metrics.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from mediagate_server.config.address import explain_listen_error
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.http.media_routes import MediaRoutes
from mediagate_server.http.replicate_webhooks import ReplicateWebhookRoutes
from mediagate_server.http.servers import OperationsHttpServer, PublicHttpServer
from mediagate_server.media.module import MediaModule
from mediagate_server.store.budget_metrics import refresh_budget_gauges
from mediagate_server.upstream.replicate.webhook_verification import WebhookSecrets, WebhookUrls
from mediagate_server.wiring.dependencies import ServerDeps
from mediagate_server.wiring.upstream import UpstreamConnection

_WEBHOOK_KEY: Final = "webhook-url"
"""The store's name for the key that the URLs of webhooks are signed with."""


@dataclass(frozen=True, slots=True)
class PublicHttp:
    """The public HTTP port, bound but not serving yet; without a server there is none.

    `url` is the port's as callers reach it. `webhook_urls` are those upstream is given; None: it
    could not reach them.
    """

    server: PublicHttpServer | None = None
    url: str = ""
    webhook_urls: WebhookUrls | None = None

    @property
    def address(self) -> str:
        """HOST:PORT that it listens on."""
        return self.server.address if self.server else ""


async def bind_public_http(
    deps: ServerDeps, stack: AsyncExitStack, upstream: UpstreamConnection
) -> PublicHttp:
    """Bind the public port, where its address or the public URL is set, or the sandbox needs it."""
    settings = deps.settings
    has_webhooks = bool(settings.public_url) or upstream.is_sandbox
    if not (has_webhooks or "web_address" in settings.model_fields_set):
        return PublicHttp()
    with explain_listen_error("web_address", settings.web_address):
        server = PublicHttpServer(settings.web_address)
    stack.callback(server.close)
    url = settings.public_url or server.local_url
    if not has_webhooks:
        return PublicHttp(server, url)
    # Without a public URL only the embedded sandbox reaches the port, by loopback.
    return PublicHttp(server, url, WebhookUrls(url, await deps.store.secret_key(_WEBHOOK_KEY)))


async def serve_public_http(
    deps: ServerDeps,
    stack: AsyncExitStack,
    public: PublicHttp,
    upstream: UpstreamConnection,
    media: MediaModule,
    generations: GenerationEngine,
) -> None:
    """Serve the public port: media by links, and the webhooks of upstream."""
    if public.server is None:
        return
    now = deps.clock.now
    public.server.add(MediaRoutes(media.links, media.store, now, deps.scheduler).routes())
    if public.webhook_urls:
        webhooks = ReplicateWebhookRoutes(
            public.webhook_urls,
            WebhookSecrets(upstream.client.webhook_secret, deps.webhook_secrets),
            deps.store.has_webhook,
            deps.store.claim_webhook,
            generations.on_webhook,
            now,
        )
        public.server.add(webhooks.routes())
    await stack.enter_async_context(public.server)


async def open_operations_http(
    deps: ServerDeps, stack: AsyncExitStack, not_ready: Callable[[], str]
) -> str:
    """Serve health and metrics on the operator's port; its address. `not_ready`: "" if ready."""
    address = deps.settings.ops_address
    refresh = partial(refresh_budget_gauges, deps.store, deps.limits.tenants, deps.clock.now)
    server = OperationsHttpServer(address, not_ready, refresh)
    with explain_listen_error("ops_address", address):
        await stack.enter_async_context(server)
    return server.address
