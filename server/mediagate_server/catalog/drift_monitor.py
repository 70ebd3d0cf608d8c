"""Catalog drift monitor: compares the catalog with upstream's models daily, or on request."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import date
from types import TracebackType
from typing import Final, Self

import structlog

from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.models.model import Model, ModelKind, ModelStatus
from mediagate_server.catalog.published.drift import (
    CatalogFinding,
    FindingKind,
    check_pinned_version,
    check_price,
    compare_inputs,
)
from mediagate_server.catalog.published.model_registry import ModelReference, PublishedModelVersion
from mediagate_server.errors import InvalidRequest, MediagateError, ModelNotFound, Reason
from mediagate_server.observability.bug_report import (
    BackgroundJob,
    report_bug,
    start_background_task,
)

FindPublishedModel = Callable[[ModelReference], Awaitable[PublishedModelVersion]]
"""Fetches a published model. Raises MediagateError."""

_MAX_CONCURRENT_READS: Final = 4
"""Low: nobody waits for a check, and it shares the account's rate limit with requests."""
_FIRST_CHECK_DELAY: Final = 600.0
"""Seconds after the start until the first check, which is not urgent."""
_MAX_LOGGED_FINDINGS: Final = 50

_log = structlog.get_logger()


async def check_catalog(
    models: Iterable[Model], find: FindPublishedModel, today: date
) -> list[CatalogFinding]:
    """Compare models with upstream: all findings, in the order of the models. Never raises for
    one.
    """
    semaphore = asyncio.Semaphore(_MAX_CONCURRENT_READS)

    async def check_model(model: Model) -> list[CatalogFinding]:
        async with semaphore:
            if model.status is ModelStatus.RETIRED:
                return await _check_retired(model, find)
            return [*await _compare_with_upstream(model, find), *check_price(model, today)]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(check_model(model)) for model in models]
    return [finding for task in tasks for finding in task.result()]


async def _compare_with_upstream(model: Model, find: FindPublishedModel) -> list[CatalogFinding]:
    """Findings about one live model."""
    deployed = model.kind is ModelKind.DEPLOYMENT
    try:
        published = await find(ModelReference(model.slug, is_deployment=deployed))
        if model.version:
            findings = [*check_pinned_version(model, published)]
            published = await find(ModelReference(model.slug, model.version))
            return [*findings, *compare_inputs(model, published)]
        return [*compare_inputs(model, published)]
    except MediagateError as error:
        return [_lookup_failure(model, error)]


async def _check_retired(model: Model, find: FindPublishedModel) -> list[CatalogFinding]:
    """A finding where a retired model is available upstream."""
    try:
        await find(ModelReference(model.slug))
    except MediagateError as error:
        finding = _lookup_failure(model, error)
        return [] if finding.kind is FindingKind.GONE else [finding]
    return [CatalogFinding(model.slug, FindingKind.RETURNED, "is called retired, and is there")]


def _lookup_failure(model: Model, error: MediagateError) -> CatalogFinding:
    if isinstance(error, ModelNotFound | InvalidRequest) or (
        error.failure.reason is Reason.MODEL_NOT_FOUND
    ):
        pinned = f", or not its version {model.version}" if model.version else ""
        return CatalogFinding(
            model.slug, FindingKind.GONE, f"is not there{pinned}", is_breaking=True
        )
    return CatalogFinding(model.slug, FindingKind.UNREADABLE, error.failure.message)


class CatalogDriftMonitor:
    """Daily check of the catalog, while entered: logs breaking findings, and counts all.

    `hours` between checks is read each time; 0: no check now. `count` gets the number of findings
    of each kind.
    """

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        find: FindPublishedModel,
        *,
        hours: Callable[[], float],
        today: Callable[[], date],
        count: Callable[[FindingKind, int], None],
    ) -> None:
        self._catalog = catalog
        self._find = find
        self._hours = hours
        self._today = today
        self._count = count
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = start_background_task(
            BackgroundJob.CATALOG_DRIFT_MONITOR, self._check_periodically()
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _check_periodically(self) -> None:
        wait = min(_FIRST_CHECK_DELAY, self._hours() * 3600 or _FIRST_CHECK_DELAY)
        while True:
            await asyncio.sleep(wait)
            if hours := self._hours():
                try:
                    await self.check_once()
                except Exception as error:  # noqa: BLE001 - the next check may succeed
                    report_bug(BackgroundJob.CATALOG_CHECK, error)
            wait = hours * 3600 or _FIRST_CHECK_DELAY

    async def check_once(self) -> list[CatalogFinding]:
        """Run one check; log and count its findings."""
        findings = await check_catalog(self._catalog().models(), self._find, self._today())
        for kind in FindingKind:
            self._count(kind, sum(finding.kind is kind for finding in findings))
        broken = [finding for finding in findings if finding.is_breaking]
        for finding in broken[:_MAX_LOGGED_FINDINGS]:
            _log.warning("catalog_drift", model=finding.model, kind=finding.kind.value)
        _log.info("catalog_check_completed", findings=len(findings), broken=len(broken))
        return findings
