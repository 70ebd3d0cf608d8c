"""Cutting event streams off: by setting or by order, once or always, abruptly or cleanly."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from .conftest import Opener
from .sandbox_client import LLAMA, Event, SandboxClient, parse_events

GIVEN = {"prompt": "x [[tokens=30]]"}


async def read_until_cut(
    caller: SandboxClient, document: Any, **headers: str
) -> tuple[bytes, bool]:
    """What arrives of a stream, and whether the connection broke in mid-answer."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    received = b""
    async with caller.session.get(document["urls"]["stream"], headers=sent) as answer:
        try:
            async for chunk in answer.content.iter_any():
                received += chunk
        except aiohttp.ClientPayloadError:
            return received, True
    return received, False


async def order(caller: SandboxClient, **body: object) -> None:
    answer = await caller.send("POST", "/sandbox/streams/cut", body)
    assert answer.status == 200, answer.body


@pytest.mark.parametrize("after", [0, 3, 6, 100, 555])
async def test_a_cut_comes_after_exactly_so_many_bytes(
    sandbox_client: SandboxClient, after: int
) -> None:
    """The bytes before it arrive, the rest does not, and there is no `done`."""
    document = await sandbox_client.created(LLAMA, GIVEN)
    complete = await sandbox_client.stream(document)
    await order(sandbox_client, after_bytes=after)
    assert await read_until_cut(sandbox_client, document) == (complete[:after], True)
    assert await read_until_cut(sandbox_client, document) == (complete, False)


async def test_a_cut_stream_resumes_without_loss(sandbox_client: SandboxClient) -> None:
    """Cut again and again, a reader that sends Last-Event-ID still gets every event once."""
    document = await sandbox_client.created(LLAMA, GIVEN)
    complete = parse_events(await sandbox_client.stream(document))
    await order(sandbox_client, after_bytes=300, times="always")
    events: list[Event] = []
    last: dict[str, str] = {}
    while not events or events[-1].name != "done":
        received, _ = await read_until_cut(sandbox_client, document, **last)
        events += parse_events(received)
        last = {"Last_Event_ID": events[-1].id}
    assert events == complete
    assert (await sandbox_client.state())["streams"]["cuts_made"] > 1


async def test_some_cuts_and_no_more(sandbox_client: SandboxClient) -> None:
    """An order for two streams is spent by two; an order can be taken back."""
    document = await sandbox_client.created(LLAMA, GIVEN)
    await order(sandbox_client, after_bytes=50, times=2)
    broken = [(await read_until_cut(sandbox_client, document))[1] for _ in range(3)]
    assert broken == [True, True, False]
    await order(sandbox_client, after_bytes=50, times="always")
    await sandbox_client.send("DELETE", "/sandbox/streams/cut")
    assert not (await read_until_cut(sandbox_client, document))[1]


async def test_a_clean_cut_ends_the_answer_without_done(sandbox_client: SandboxClient) -> None:
    """To HTTP it is a whole answer: only the missing `done` tells."""
    document = await sandbox_client.created(LLAMA, GIVEN)
    await sandbox_client.ended(document)
    await order(sandbox_client, after_bytes=120, how="clean")
    received, broken = await read_until_cut(sandbox_client, document)
    assert (len(received), broken) == (120, False)


@pytest.mark.parametrize(("times", "broken"), [(1, [True, False]), (None, [True, True])])
async def test_cuts_by_setting(open_sandbox: Opener, times: int | None, broken: list[bool]) -> None:
    """A sandbox can be started with the order already given."""
    settings = {"cut_streams_after_bytes": 80, "cut_streams_times": times}
    async with open_sandbox(**settings) as caller:
        document = await caller.created(LLAMA, GIVEN)
        assert [(await read_until_cut(caller, document))[1] for _ in range(2)] == broken


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"after_bytes": -1},
        {"after_bytes": True},
        {"after_bytes": 5, "times": 0},
        {"after_bytes": 5, "times": "twice"},
        {"after_bytes": 5, "how": "gently"},
        {"after_bytes": 5, "when": "now"},
        [],
    ],
)
async def test_invalid_orders_are_refused(sandbox_client: SandboxClient, body: object) -> None:
    """400, and no order is in force."""
    answer = await sandbox_client.send("POST", "/sandbox/streams/cut", body)
    assert answer.status == 400
    assert (await sandbox_client.state())["streams"]["cut"] is None
