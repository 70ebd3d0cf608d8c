"""Wiring of the upstream: Replicate's API or the embedded sandbox, and the models it publishes."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import date

from mediagate_server.catalog import drift
from mediagate_server.catalog.drift import CatalogDriftMonitor
from mediagate_server.catalog.published_models import PublishedModelRegistry
from mediagate_server.config import Settings
from mediagate_server.observability import metrics
from mediagate_server.upstream.policies.resilient_upstream import ResilientUpstream
from mediagate_server.upstream.replicate.client import ReplicateClient
from mediagate_server.upstream.settings import ReplicateSettings, UpstreamLimits
from mediagate_server.wiring.dependencies import ServerDeps
from mediagate_server.workers.worker_pool import WorkerPool


@dataclass(frozen=True, slots=True)
class UpstreamConnection:
    """The upstream of one server: its client and its base URL.

    `description` names it in a few words for people. `is_sandbox`: nothing of it is real.
    """

    client: ResilientUpstream
    base_url: str
    description: str
    is_sandbox: bool


async def open_upstream(deps: ServerDeps, stack: AsyncExitStack) -> UpstreamConnection:
    """Open the client of the upstream that the settings choose, with its policies around it."""
    settings = deps.settings
    # Apart from the other workers: reading a large response may take a minute, and a check that a
    # caller waits for not.
    response_workers = await stack.enter_async_context(WorkerPool())
    choice = settings.upstream_choice()
    is_sandbox = choice.kind == "sandbox"
    if is_sandbox:
        base_url = await _open_sandbox(stack)
        description = "the embedded sandbox: nothing is paid, nothing is real"
    else:
        base_url = choice.base_url
        description = f"Replicate's API at {base_url}"
    replicate = ReplicateClient(
        _replicate_settings(settings, base_url, choice.token), response_workers, deps.scheduler
    )
    client = ResilientUpstream(
        await stack.enter_async_context(replicate),
        UpstreamLimits(
            settings.creates_per_minute, settings.reads_per_minute, settings.upstream_max_streams
        ),
        label=deps.model_label,
    )
    return UpstreamConnection(client, base_url, description, is_sandbox)


async def _open_sandbox(stack: AsyncExitStack) -> str:
    """Start the embedded sandbox; its base URL."""
    # The one line in which the server knows of the sandbox.
    from mediagate_sandbox.server import Sandbox, SandboxSettings  # noqa: PLC0415

    sandbox = Sandbox(SandboxSettings(port=0, webhooks_over_http=True))
    return (await stack.enter_async_context(sandbox)).base_url


def _replicate_settings(settings: Settings, base_url: str, token: str | None) -> ReplicateSettings:
    return ReplicateSettings(
        base_url=base_url,
        token=token,
        connect_timeout=settings.upstream_connect_timeout,
        create_timeout=settings.upstream_create_timeout,
        read_timeout=settings.upstream_read_timeout,
        upload_timeout=settings.upstream_upload_timeout,
        max_streams=settings.upstream_max_streams,
        body_folder=settings.data_dir / "answers",
    )


async def open_published_models(
    deps: ServerDeps, stack: AsyncExitStack, upstream: UpstreamConnection
) -> PublishedModelRegistry:
    """Open the registry of upstream's models, and the monitor that compares the catalog with it."""
    catalog = deps.catalog.current
    published = PublishedModelRegistry(
        upstream.client,
        knows_official=lambda slug: catalog().is_official(slug),
        suggest=lambda name: catalog().nearest_names(name, slugs=True),
    )

    def today() -> date:
        return deps.clock.now().date()

    def price_ages() -> tuple[int, int]:
        return drift.count_price_ages(catalog().models(), today())

    metrics.catalog_old_prices.set_function(lambda: price_ages()[0])
    metrics.catalog_unknown_prices.set_function(lambda: price_ages()[1])
    await stack.enter_async_context(
        CatalogDriftMonitor(
            catalog,
            published.find,
            hours=lambda: deps.settings.catalog_check_hours,
            today=today,
            count=lambda kind, findings: metrics.catalog_findings.labels(kind.value).set(findings),
        )
    )
    return published
