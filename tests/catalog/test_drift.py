"""The catalog held against what upstream publishes: what breaks, what is news, what is old."""

import asyncio
from collections.abc import Awaitable, Callable
from copy import deepcopy
from datetime import date
from typing import Any

import pytest
import structlog

from mediagate_sandbox.model_json import openapi_document
from mediagate_sandbox.models import load_catalog
from mediagate_server.catalog.drift import (
    CatalogDriftMonitor,
    CatalogFinding,
    FindingKind,
    age_in_days,
    check_catalog,
    check_price,
    compare_inputs,
    count_price_ages,
    has_outdated_price,
    price_date,
)
from mediagate_server.catalog.models.model import Model
from mediagate_server.catalog.published_models import ModelReference, PublishedModelVersion
from mediagate_server.catalog.schemas.openapi import ModelSchema
from mediagate_server.errors import ModelNotFound, UpstreamUnavailable
from mediagate_server.structs import replace
from tests.catalog.builders import shipped_catalog

CATALOG = shipped_catalog()
SANDBOX = load_catalog()
TODAY = date(2026, 11, 24)
Find = Callable[[ModelReference], Awaitable[PublishedModelVersion]]


def model(name: str) -> Model:
    """A model of the catalog."""
    known_model = CATALOG.find_by_name(name)
    assert known_model is not None
    return known_model


def published(slug: str, change: Callable[[Any], object] = dict) -> PublishedModelVersion:
    """What upstream publishes of a model, after a change of its schemas."""
    there = SANDBOX.by_slug(slug)
    assert there is not None
    document = deepcopy(openapi_document(there))
    change(document["components"]["schemas"])
    target = slug if there.official else f"{slug}:{there.version}"
    return PublishedModelVersion(
        slug, target, slug, ModelSchema(document), is_official=there.official
    )


@pytest.mark.parametrize("sold", CATALOG.models(), ids=lambda each: each.slug)
def test_the_catalog_agrees_with_the_sandbox(sold: Model) -> None:
    """The two tables were written apart, and agree in all that is sent."""
    if SANDBOX.by_slug(sold.slug) is None:
        assert sold.successor
        return
    assert [
        finding for finding in compare_inputs(sold, published(sold.slug)) if finding.is_breaking
    ] == []


DEV = "black-forest-labs/flux-dev"


@pytest.mark.parametrize(
    ("change", "what", "breaks"),
    [
        (lambda s: s["Input"]["properties"].pop("guidance"), "has no input 'guidance'", True),
        (
            lambda s: s["Input"]["properties"]["guidance"].update(type="string"),
            "guidance: is of type string, not number",
            True,
        ),
        (
            lambda s: s["Input"]["properties"]["num_outputs"].update(maximum=2),
            "num_outputs: is at most 2 now",
            True,
        ),
        (
            lambda s: s["Input"]["properties"]["num_outputs"].update(maximum=8),
            "num_outputs: may be as much as 8",
            False,
        ),
        (
            lambda s: s["Input"]["properties"]["guidance"].update(minimum=1),
            "guidance: is at least 1 now",
            True,
        ),
        (
            lambda s: s["aspect_ratio"]["enum"].remove("21:9"),
            "aspect_ratio: does not take '21:9' any more",
            True,
        ),
        (
            lambda s: s["aspect_ratio"]["enum"].append("2:1"),
            "aspect_ratio: takes '2:1' too",
            False,
        ),
        (lambda s: s["Input"]["required"].append("image"), "image: is required now", True),
        (
            lambda s: s["Input"]["properties"].update(mood={"type": "string"}),
            "has another input, 'mood'",
            False,
        ),
        (
            lambda s: (
                s["Input"]["properties"].update(mood={"type": "string"}),
                s["Input"]["required"].append("mood"),
            ),
            "has another input, 'mood', which it needs",
            True,
        ),
        (
            lambda s: s["Input"]["properties"]["go_fast"].update(default=False),
            "go_fast: is False by default, not True",
            False,
        ),
        (
            lambda s: s["Output"].update(
                {
                    "items": {"type": "string"},
                    "x-cog-array-type": "iterator",
                    "x-cog-array-display": "concatenate",
                }
            ),
            "its output streams",
            True,
        ),
        (lambda s: s.clear(), "publishes no schema", False),
    ],
)
def test_schema_changes_are_found(change: Callable[[Any], object], what: str, breaks: bool) -> None:
    """What it is, and whether calls go wrong by it."""
    [finding] = compare_inputs(model("flux-dev"), published(DEV, change))
    assert finding.kind is FindingKind.SCHEMA
    assert what in finding.message
    assert finding.is_breaking is breaks


def test_a_model_that_lost_its_official_status() -> None:
    """One that is not official any more can only be called by its version."""
    findings = [*compare_inputs(model("flux-dev"), replace(published(DEV), is_official=False))]
    assert [(each.kind, each.is_breaking) for each in findings] == [(FindingKind.KIND, True)]


@pytest.mark.parametrize(
    ("as_of", "day", "age"),
    [
        ("2026-11-24", date(2026, 11, 24), 0),
        ("2026-09-25", date(2026, 9, 25), 60),
        ("2026-09-24", date(2026, 9, 24), 61),
        ("2026-10", date(2026, 10, 1), 54),
        ("2026", date(2026, 1, 1), 327),
        ("2026-12-24", date(2026, 12, 24), 0),
    ],
)
def test_prices_are_outdated_after_sixty_days(as_of: str, day: date, age: int) -> None:
    """A coarse date counts from its first day."""
    assert price_date(as_of) == day
    assert age_in_days(as_of, TODAY) == age
    sold = replace(model("flux-dev"), price=replace(model("flux-dev").price, as_of=as_of))
    assert has_outdated_price(sold, TODAY) is (age > 60)
    assert bool([*check_price(sold, TODAY)]) is (age > 60)


def test_unknown_prices_are_found_and_counted() -> None:
    """None is not old, and retired models count for nothing."""
    sure = shipped_catalog(assumed=False)
    music = sure.find_by_name("musicgen")
    assert music is not None
    assert [finding.message for finding in check_price(music, TODAY)] == ["has no known price"]
    assert "assumed: A100" in next(iter(check_price(model("musicgen"), TODAY))).message
    old, unknown = count_price_ages(CATALOG.models(), TODAY)
    assert unknown == 0
    unknown = count_price_ages(sure.models(), TODAY)[1]
    assert unknown == len([each for each in sure.models() if not each.price.tiers]) - 3 > 0
    assert count_price_ages(CATALOG.models(), date(2025, 1, 1))[0] == 0 < old


async def find_drift(find: Find, *names: str) -> list[CatalogFinding]:
    """What a check of these models finds, prices apart."""
    findings = await check_catalog([model(name) for name in names], find, TODAY)
    return [finding for finding in findings if finding.kind is not FindingKind.PRICE]


async def test_removed_returned_and_updated_models() -> None:
    """By what upstream answers; what cannot be read is said to be unread, and breaks nothing."""
    newest = "f" * 64

    async def find(reference: ModelReference) -> PublishedModelVersion:
        if reference.slug == DEV:
            raise ModelNotFound(str(reference))
        if reference.slug == "black-forest-labs/flux-schnell":
            raise UpstreamUnavailable("not now")
        if reference.slug == "google/imagen-4":
            return published(DEV)
        there = published(reference.slug)
        if reference.version:
            return there
        return replace(there, target=f"{reference.slug}:{newest}")

    findings = await find_drift(find, "flux-dev", "flux-schnell", "imagen-4", "sdxl")
    assert [(each.kind, each.is_breaking) for each in findings] == [
        (FindingKind.GONE, True),
        (FindingKind.UNREADABLE, False),
        (FindingKind.RETURNED, False),
        (FindingKind.VERSION, False),
    ]
    assert newest in findings[-1].message


async def test_the_catalog_watch_runs_on_schedule_and_counts() -> None:
    """Once for each span; what breaks is counted by kind."""
    looked = asyncio.Event()
    counted: dict[FindingKind, int] = {}

    def count(kind: FindingKind, number: int) -> None:
        counted[kind] = number
        if len(counted) == len(FindingKind):
            looked.set()

    async def find(reference: ModelReference) -> PublishedModelVersion:
        raise ModelNotFound(str(reference))

    watch = CatalogDriftMonitor(
        lambda: CATALOG, find, hours=lambda: 1e-6, today=lambda: TODAY, count=count
    )
    async with watch:
        await asyncio.wait_for(looked.wait(), 20)
    live = [each for each in CATALOG.models() if each.status.value == "live"]
    assert counted[FindingKind.GONE] == len(live)
    assert counted[FindingKind.RETURNED] == 0


async def test_the_catalog_watch_continues_after_an_error() -> None:
    """A bug, or an answer that nobody expects: the next look comes all the same."""
    looked = asyncio.Event()
    first = iter([True])

    async def find(reference: ModelReference) -> PublishedModelVersion:
        if next(first, False):
            raise ZeroDivisionError
        raise ModelNotFound(str(reference))

    watch = CatalogDriftMonitor(
        lambda: CATALOG,
        find,
        hours=lambda: 1e-6,
        today=lambda: TODAY,
        count=lambda _kind, _number: looked.set(),
    )
    with structlog.testing.capture_logs() as logs:
        async with watch:
            await asyncio.wait_for(looked.wait(), 20)
    (event,) = [line for line in logs if line["event"] == "catalog_check_crashed"]
    assert event["error"] == "ZeroDivisionError"
