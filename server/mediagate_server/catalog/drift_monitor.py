"""Compares the catalog with what upstream publishes: when an operator asks, and once a day."""

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
"""Reads what upstream publishes. Raises MediagateError."""

_TOGETHER: Final = 4
"""Models read at once: nobody waits for this, and the account's rate is for those who do."""
_SOON: Final = 600.0
"""Seconds until the first check of a gate: it has better things to do when it starts."""
_MOST_LINES: Final = 50

_log = structlog.get_logger()


async def check_catalog(
    models: Iterable[Model], find: FindPublishedModel, today: date
) -> list[CatalogFinding]:
    """Everything that was found, in the order of the models. Never raises for a single model."""
    room = asyncio.Semaphore(_TOGETHER)

    async def one(model: Model) -> list[CatalogFinding]:
        async with room:
            if model.status is ModelStatus.RETIRED:
                return await _is_back(model, find)
            return [*await _published(model, find), *check_price(model, today)]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(model)) for model in models]
    return [finding for task in tasks for finding in task.result()]


async def _published(model: Model, find: FindPublishedModel) -> list[CatalogFinding]:
    """What upstream says of one model."""
    deployed = model.kind is ModelKind.DEPLOYMENT
    try:
        found = await find(ModelReference(model.slug, is_deployment=deployed))
        if model.version:
            news = [*check_pinned_version(model, found)]
            found = await find(ModelReference(model.slug, model.version))
            return [*news, *compare_inputs(model, found)]
        return [*compare_inputs(model, found)]
    except MediagateError as error:
        return [_unfound(model, error)]


async def _is_back(model: Model, find: FindPublishedModel) -> list[CatalogFinding]:
    """Whether a model that is retired can be had."""
    try:
        await find(ModelReference(model.slug))
    except MediagateError as error:
        found = _unfound(model, error)
        return [] if found.kind is FindingKind.GONE else [found]
    return [CatalogFinding(model.slug, FindingKind.RETURNED, "is called retired, and is there")]


def _unfound(model: Model, error: MediagateError) -> CatalogFinding:
    if isinstance(error, ModelNotFound | InvalidRequest) or (
        error.failure.reason is Reason.MODEL_NOT_FOUND
    ):
        pinned = f", or not its version {model.version}" if model.version else ""
        return CatalogFinding(
            model.slug, FindingKind.GONE, f"is not there{pinned}", is_breaking=True
        )
    return CatalogFinding(model.slug, FindingKind.UNREADABLE, error.failure.message)


class CatalogDriftMonitor:
    """Checks once a day, as long as it is entered: says what breaks, and counts what was found.

    `hours` is asked each time; 0: not now. `count` gets the number of findings of each kind.
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
        self._task = start_background_task(BackgroundJob.CATALOG_DRIFT_MONITOR, self._watch())
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

    async def _watch(self) -> None:
        wait = min(_SOON, self._hours() * 3600 or _SOON)
        while True:
            await asyncio.sleep(wait)
            if hours := self._hours():
                try:
                    await self.check_once()
                except Exception as error:  # noqa: BLE001 - the next look may be a better one
                    report_bug(BackgroundJob.CATALOG_CHECK, error)
            wait = hours * 3600 or _SOON

    async def check_once(self) -> list[CatalogFinding]:
        """One check, told to the log and counted."""
        found = await check_catalog(self._catalog().models(), self._find, self._today())
        for kind in FindingKind:
            self._count(kind, sum(finding.kind is kind for finding in found))
        broken = [finding for finding in found if finding.is_breaking]
        for finding in broken[:_MOST_LINES]:
            _log.warning("catalog_drift", model=finding.model, kind=finding.kind.value)
        _log.info("catalog_check_completed", findings=len(found), broken=len(broken))
        return found
