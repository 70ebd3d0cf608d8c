"""Wiring of the catalog's connection to upstream: published models and the drift monitor."""

from contextlib import AsyncExitStack
from datetime import date

from mediagate_server.catalog.drift_monitor import CatalogDriftMonitor
from mediagate_server.catalog.published import drift
from mediagate_server.catalog.published.model_registry import PublishedModelRegistry
from mediagate_server.observability import metrics
from mediagate_server.wiring.dependencies import ServerDeps
from mediagate_server.wiring.upstream import UpstreamConnection


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
