"""Catalog drift: differences between a catalog model and what upstream publishes of it, and the
monitor that looks for them daily.

A finding is breaking (what we send would be rejected, or the output be misread) or informative: the
model can do more than the catalog has, or its price is old. A list price that nobody has read for
two months may have changed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final, Self

import structlog

from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.models.model import Model, ModelKind, ModelStatus
from mediagate_server.catalog.pricing.prices import AS_OF
from mediagate_server.catalog.published_models import ModelReference, PublishedModelVersion
from mediagate_server.catalog.schemas.input_spec import InputSpec, InputType
from mediagate_server.catalog.schemas.openapi import ModelSchema, PublishedInput
from mediagate_server.errors import InvalidRequest, MediagateError, ModelNotFound, Reason
from mediagate_server.observability.bug_report import (
    BackgroundJob,
    report_bug,
    start_background_task,
)

MAX_PRICE_AGE_DAYS: Final = 60
"""Age in days from which a price counts as old."""
_MAX_LISTED_VALUES: Final = 8
_JSON_TYPES: Final = {
    InputType.STRING: "string",
    InputType.URI: "string",
    InputType.INTEGER: "integer",
    InputType.NUMBER: "number",
    InputType.BOOLEAN: "boolean",
}


class FindingKind(StrEnum):
    """Kind of a catalog finding."""

    GONE = "gone"
    """Upstream does not have the model, or not the pinned version."""
    RETURNED = "back"
    """Retired in the catalog, but available upstream."""
    UNREADABLE = "unread"
    """Upstream was not available."""
    KIND = "office"
    """Addressed as another kind of model than it is."""
    VERSION = "version"
    """There is a newer version than the pinned one."""
    SCHEMA = "schema"
    """Inputs or output have changed."""
    PRICE = "price"
    """The price is unknown or old."""


@dataclass(frozen=True, slots=True)
class CatalogFinding:
    """Difference between a catalog model and upstream. `is_breaking`: runs of it will fail."""

    model: str
    kind: FindingKind
    message: str
    is_breaking: bool = False


def compare_inputs(model: Model, published: PublishedModelVersion) -> Iterator[CatalogFinding]:
    """Compare a catalog model with its own version upstream."""
    if model.kind is ModelKind.OFFICIAL and not published.is_official:
        yield CatalogFinding(
            model.slug, FindingKind.KIND, "is no official model: needs a version", is_breaking=True
        )
    for message, breaks in _schema_changes(model, published.schema):
        yield CatalogFinding(model.slug, FindingKind.SCHEMA, message, is_breaking=breaks)


def _schema_changes(model: Model, schema: ModelSchema) -> Iterator[tuple[str, bool]]:
    """Differences of inputs and output, and whether each is breaking."""
    inputs = schema.inputs
    if schema.input_schema is None or not inputs:
        yield "publishes no schema to compare with", False
        return
    if schema.streams_text is not model.streams:
        yield f"its output {'does not stream' if model.streams else 'streams'}", True
    for name, spec in model.inputs.items():
        if name not in inputs:
            yield f"has no input {name!r} any more", True
            continue
        for message, breaks in _input_changes(spec, inputs[name]):
            yield f"{name}: {message}", breaks
    for name in (name for name in inputs if name not in model.inputs):
        needed = inputs[name].required
        yield f"has another input, {name!r}{', which it needs' if needed else ''}", needed


def check_pinned_version(model: Model, newest: PublishedModelVersion) -> Iterator[CatalogFinding]:
    """A finding where the pinned version of a community model is not the newest."""
    if newest.target not in (model.target, model.slug):
        yield CatalogFinding(
            model.slug, FindingKind.VERSION, f"has a newer version, {newest.target}"
        )


def check_price(model: Model, today: date) -> Iterator[CatalogFinding]:
    """A finding where the price is unknown, assumed or old."""
    if not is_priced(model):
        yield CatalogFinding(model.slug, FindingKind.PRICE, "has no known price")
    elif model.price.assumed:
        yield CatalogFinding(model.slug, FindingKind.PRICE, f"its price is {model.price.source}")
    elif has_outdated_price(model, today):
        as_of = model.price.as_of
        coarse = "" if as_of.count("-") == 2 else "up to "
        message = f"its price is of {as_of}, {coarse}{age_in_days(as_of, today)} days old"
        yield CatalogFinding(model.slug, FindingKind.PRICE, message)


def price_date(as_of: str) -> date:
    """Earliest date that a price's `as_of` can mean. Raises ValueError for other text."""
    match = AS_OF.fullmatch(as_of)
    if match is None:
        raise ValueError("must be a year, a month or a day: 2026, 2026-11, 2026-11-24")
    year, month, day = match.groups()
    return date(int(year), int(month or 1), int(day or 1))


def age_in_days(as_of: str, today: date) -> int:
    """Age of a price in days; 0 for a date in the future."""
    return max(0, (today - price_date(as_of)).days)


def is_priced(model: Model) -> bool:
    """Whether the model has a known price."""
    return bool(model.price.tiers)


def has_outdated_price(model: Model, today: date) -> bool:
    """Whether the model has a price that is older than MAX_PRICE_AGE_DAYS."""
    return is_priced(model) and age_in_days(model.price.as_of, today) > MAX_PRICE_AGE_DAYS


def count_price_ages(models: tuple[Model, ...], today: date) -> tuple[int, int]:
    """Numbers of callable models with an old price, and without a price."""
    live = [model for model in models if model.status is ModelStatus.LIVE]
    return (
        sum(has_outdated_price(model, today) for model in live),
        sum(not is_priced(model) for model in live),
    )


def _input_changes(spec: InputSpec, published: PublishedInput) -> Iterator[tuple[str, bool]]:
    """Differences of one input, and whether each is breaking."""
    expected = _JSON_TYPES.get(spec.type, "array")
    if published.types and expected not in published.types:
        is_wider = expected == "integer" and "number" in published.types
        if not is_wider:
            yield f"is of type {' or '.join(sorted(published.types))}, not {expected}", True
            return
    yield from _value_changes(spec, published)
    yield from _bound_changes(spec, published)
    if published.required and not spec.required:
        yield "is required now", True
    if spec.default is not None and published.default not in (None, spec.default):
        yield f"is {published.default!r} by default, not {spec.default!r}", False


def _value_changes(spec: InputSpec, published: PublishedInput) -> Iterator[tuple[str, bool]]:
    if not published.values:
        return
    removed = [value for value in spec.enum if value not in published.values]
    if removed:
        yield f"does not take {_format_values(removed)} any more", True
    added = [value for value in published.values if value not in spec.enum]
    if added and spec.enum:
        yield f"takes {_format_values(added)} too", False
    elif added and not spec.pattern:
        yield f"takes only {_format_values(added)}", True


def _bound_changes(spec: InputSpec, published: PublishedInput) -> Iterator[tuple[str, bool]]:
    if published.minimum is not None and (spec.min is None or spec.min < published.minimum):
        yield f"is at least {published.minimum:g} now", not spec.enum
    elif spec.min is not None and published.minimum is not None and published.minimum < spec.min:
        yield f"may be as little as {published.minimum:g}", False
    if published.maximum is not None and (spec.max is None or spec.max > published.maximum):
        yield f"is at most {published.maximum:g} now", not spec.enum
    elif spec.max is not None and published.maximum is not None and published.maximum > spec.max:
        yield f"may be as much as {published.maximum:g}", False


def _format_values(values: list[Any]) -> str:
    text = ", ".join(repr(value) for value in values[:_MAX_LISTED_VALUES])
    more = len(values) - _MAX_LISTED_VALUES
    return f"{text} and {more} more" if more > 0 else text


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
    """Compare models with upstream: all findings, in the order of the models. Never raises."""
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

    async def __aexit__(self, *_: object) -> None:
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
