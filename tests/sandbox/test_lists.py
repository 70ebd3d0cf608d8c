"""Lists of predictions and models: order, pages, cursors, filters."""

from __future__ import annotations

from typing import Any

import pytest

from mediagate_sandbox.clock import ManualClock

from .conftest import Opener
from .sandbox_client import LLAMA, SandboxClient


async def walk(caller: SandboxClient, url: str | None, link: str = "next") -> list[list[str]]:
    """Ids of each page, following one kind of link."""
    pages = []
    while url is not None:
        page = (await caller.get(url)).json
        pages.append([each["id"] for each in page["results"]])
        url = page[link]
    return pages


async def create_some(caller: SandboxClient, count: int) -> list[str]:
    return [
        (await caller.created(LLAMA, {"prompt": f"{number} [[tokens=1]]"}))["id"]
        for number in range(count)
    ]


async def test_newest_first_in_pages_both_ways(open_sandbox: Opener) -> None:
    """Following next to the end and previous back shows every prediction once each way."""
    async with open_sandbox(predictions_per_page=4) as caller:
        ids = (await create_some(caller, 10))[::-1]
        pages = await walk(caller, "/v1/predictions")
        assert pages == [ids[0:4], ids[4:8], ids[8:10]]
        first = (await caller.get("/v1/predictions")).json
        assert first["previous"] is None
        assert first["next"].startswith(f"{caller.sandbox.base_url}/predictions?cursor=")
        second = (await caller.get(first["next"])).json
        last = (await caller.get(second["next"])).json
        assert last["next"] is None
        assert await walk(caller, last["previous"], "previous") == [ids[4:8], ids[0:4]]


async def test_pages_stay_put_while_predictions_come(open_sandbox: Opener) -> None:
    """A cursor points at a place in the list, not at a count from its start."""
    async with open_sandbox(predictions_per_page=2) as caller:
        ids = (await create_some(caller, 4))[::-1]
        first = (await caller.get("/v1/predictions")).json
        await create_some(caller, 3)
        second = (await caller.get(first["next"])).json
        assert [each["id"] for each in second["results"]] == ids[2:]
        assert second["previous"] is not None


async def test_a_hundred_on_a_page(sandbox_client: SandboxClient) -> None:
    """Unless it is set otherwise."""
    await create_some(sandbox_client, 101)
    assert [len(page) for page in await walk(sandbox_client, "/v1/predictions")] == [100, 1]


async def test_filters_by_time(frozen_clock_client: SandboxClient, clock: ManualClock) -> None:
    """created_after is inclusive, created_before is not; both are kept in the links."""
    documents: list[Any] = []
    for number in range(3):
        documents.append(await frozen_clock_client.created(LLAMA, {"prompt": str(number)}))
        await clock.advance(60)
    ids = [each["id"] for each in documents]
    moment = documents[1]["created_at"]
    assert await walk(frozen_clock_client, f"/v1/predictions?created_after={moment}") == [
        [ids[2], ids[1]]
    ]
    assert await walk(frozen_clock_client, f"/v1/predictions?created_before={moment}") == [[ids[0]]]
    offset = "2026-01-01T13:01:00+01:00"
    assert await walk(frozen_clock_client, f"/v1/predictions?created_after={offset}") == [
        [ids[2], ids[1]]
    ]
    both = f"created_after={moment}&created_before={documents[2]['created_at']}"
    assert await walk(frozen_clock_client, f"/v1/predictions?{both}") == [[ids[1]]]
    assert await walk(frozen_clock_client, "/v1/predictions?source=web") == [[]]


async def test_filters_stay_in_the_links(open_sandbox: Opener, clock: ManualClock) -> None:
    """The second page of a filtered list is filtered, too."""
    async with open_sandbox(clock, predictions_per_page=1) as caller:
        await create_some(caller, 1)
        await clock.advance(60)
        moment = clock.now().isoformat().replace("+00:00", "Z")
        ids = (await create_some(caller, 2))[::-1]
        pages = await walk(caller, f"/v1/predictions?created_after={moment}")
        assert pages == [[ids[0]], [ids[1]]]


@pytest.mark.parametrize(
    "query", ["cursor=nonsense", "cursor=b2xkZXI6eA", "created_after=yesterday", "source=api"]
)
async def test_queries_that_cannot_be_read(sandbox_client: SandboxClient, query: str) -> None:
    """400, worded as a problem."""
    answer = await sandbox_client.get(f"/v1/predictions?{query}")
    assert (answer.status, answer.json["status"]) == (400, 400)


async def test_models_in_pages(open_sandbox: Opener) -> None:
    """Every model once, over as many pages as it takes."""
    async with open_sandbox(models_per_page=5) as caller:
        url, names = "/v1/models", []
        while url is not None:
            page = (await caller.get(url)).json
            assert len(page["results"]) <= 5
            names += [f"{each['owner']}/{each['name']}" for each in page["results"]]
            url = page["next"]
        assert len(names) == len(set(names)) >= 20
        assert LLAMA in names
