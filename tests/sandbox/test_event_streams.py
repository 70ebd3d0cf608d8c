"""Event streams: what is on the wire, when it is sent, and how they are taken up again."""

from __future__ import annotations

import asyncio
import re

import orjson
import pytest

from mediagate_sandbox.clock import ManualClock
from mediagate_sandbox.model_json import openapi_document
from mediagate_sandbox.models import load_catalog
from mediagate_sandbox.stream_dialects import ReplicateDialect
from mediagate_sandbox.streams import StreamLog

from .conftest import Opener
from .sandbox_client import LLAMA, SCHNELL, SandboxClient, parse_events

BARK = "b76242b40d67c76ab6742e987628a2a9ac019e11d56ab96c4e91ce03b79b2787"
GUARD = "meta/llama-guard-4-12b"


async def test_a_stream_opens_and_ends_as_it_should(sandbox_client: SandboxClient) -> None:
    """A comment first, outputs with ids, comments in between, `done` last; no token needed."""
    document = await sandbox_client.created(LLAMA, {"prompt": "hi [[tokens=25]]"})
    stream = await sandbox_client.stream(document)
    assert stream.startswith(b": hi\n\n")
    assert re.search(rb"\n\n: [^\n]+\n\nevent: ", stream)
    events = parse_events(stream)
    assert [each.name for each in events] == ["output"] * 25 + ["done"]
    assert events[-1].data == "{}"
    assert all(re.fullmatch(r"\d{10}:\d+", each.id) for each in events)
    assert len({each.id for each in events}) == len(events)
    final = await sandbox_client.ended(document)
    assert [each.data for each in events[:-1]] == final["output"]
    assert "".join(final["output"]).startswith(f"[sandbox {LLAMA}] ")


async def test_every_token_is_sent_by_itself_at_its_time(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """One interval brings one event: none early, none held back."""
    given = {"prompt": "hi [[tokens=20 boot_ms=0 first_ms=100 interval_ms=100]]"}
    document = await frozen_clock_client.created(LLAMA, given)
    async with frozen_clock_client.session.get(document["urls"]["stream"]) as answer:
        assert await answer.content.readany() == b": hi\n\n"
        for number in range(20):
            await clock.advance(0.1)
            received = await answer.content.readuntil(b"\n\n")
            if received.startswith(b":"):
                received = await answer.content.readuntil(b"\n\n")
            assert received.startswith(b"event: output\n"), number
            output = (await frozen_clock_client.get(document["urls"]["get"])).json["output"]
            assert len(output) == number + 1
        assert (await answer.content.readuntil(b"\n\n")).startswith(b"event: done\n")


async def test_special_characters_arrive_unchanged(sandbox_client: SandboxClient) -> None:
    """Line breaks become several data lines; separators and links are just text."""
    say = r"one\n\ntwo|https:|//a.example|\u2028|\u0085x|data:|tab\there|pipe\|pipe| lead|end\n"
    document = await sandbox_client.created(LLAMA, {"prompt": f"[[say={say}]]"})
    tokens = [
        "one\n\ntwo", "https:", "//a.example", "\u2028", "\u0085x", "data:", "tab\there",
        "pipe|pipe", " lead", "end\n",
    ]  # fmt: skip
    stream = await sandbox_client.stream(document)
    assert b"data: one\ndata: \ndata: two\n\n" in stream
    events = parse_events(stream)
    assert [each.data for each in events[:-1]] == tokens
    assert (await sandbox_client.ended(document))["output"] == tokens


async def test_carriage_returns_are_line_breaks_on_a_stream(sandbox_client: SandboxClient) -> None:
    """The format cannot carry them; the prediction's own output still has them."""
    document = await sandbox_client.created(LLAMA, {"prompt": r"[[say=a\r\nb|c\rd]]"})
    events = await sandbox_client.events(document)
    assert [each.data for each in events[:-1]] == ["a\nb", "c\nd"]
    assert (await sandbox_client.ended(document))["output"] == ["a\r\nb", "c\rd"]


async def test_failure_on_a_stream(sandbox_client: SandboxClient) -> None:
    """Tokens so far, then `error` with a detail, then `done` with the reason."""
    given = {"prompt": "x [[fail=E1001: out of memory]] [[fail_after=3]]"}
    events = await sandbox_client.events(await sandbox_client.created(LLAMA, given))
    assert [each.name for each in events] == ["output"] * 3 + ["error", "done"]
    assert orjson.loads(events[-2].data) == {"detail": "E1001: out of memory"}
    assert orjson.loads(events[-1].data) == {"reason": "error"}


async def test_cancel_on_a_stream(sandbox_client: SandboxClient) -> None:
    """A stream that is being read ends with reason canceled when the prediction is."""
    document = await sandbox_client.created(LLAMA, {"prompt": "x [[hang_after=2]]"})
    async with sandbox_client.session.get(document["urls"]["stream"]) as answer:
        for _ in range(3):
            await answer.content.readuntil(b"\n\n")
        await sandbox_client.send("POST", document["urls"]["cancel"])
        rest = parse_events(await answer.read())
    assert [(each.name, each.data) for each in rest] == [("done", '{"reason":"canceled"}')]


async def test_the_done_reason_can_be_set_by_directive(sandbox_client: SandboxClient) -> None:
    """A reader can be shown a reason it does not know."""
    document = await sandbox_client.created(LLAMA, {"prompt": "x [[tokens=1]] [[reason=moved]]"})
    assert (await sandbox_client.events(document))[-1].data == '{"reason":"moved"}'


@pytest.mark.parametrize("seen", [1, 7, 12, 13])
async def test_a_stream_resumes_after_the_last_event_id(
    sandbox_client: SandboxClient, seen: int
) -> None:
    """Last-Event-ID brings only what came later, also once all is over; `done` always."""
    document = await sandbox_client.created(LLAMA, {"prompt": "x [[tokens=12]]"})
    events = await sandbox_client.events(document)
    again = await sandbox_client.events(document, Last_Event_ID=events[seen - 1].id)
    assert again == (events[seen:] or events[-1:])


async def test_an_unknown_event_id_replays_everything(sandbox_client: SandboxClient) -> None:
    """As does none at all; the ids stay the same."""
    document = await sandbox_client.created(LLAMA, {"prompt": "x [[tokens=5]]"})
    events = await sandbox_client.events(document)
    assert await sandbox_client.events(document) == events
    assert await sandbox_client.events(document, Last_Event_ID="12:34") == events


async def test_ids_restart_with_the_second_and_never_repeat(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """`<unix seconds>:<count within that second>`."""
    given = {"prompt": "x [[tokens=5 boot_ms=0 first_ms=0 interval_ms=400]]"}
    document = await frozen_clock_client.created(LLAMA, given)
    await clock.advance(2)
    base = int(clock.now().timestamp()) - 2
    ids = [each.id for each in await frozen_clock_client.events(document)]
    assert ids == [
        f"{base + second}:{count}" for second, count in
        ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2))
    ]  # fmt: skip


async def test_streams_are_retained_for_a_time(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """Within the retention the whole stream can be read, after it there is none."""
    document = await frozen_clock_client.created(LLAMA, {"prompt": "x [[tokens=3]]"})
    await clock.advance(3000)
    assert len(await frozen_clock_client.events(document)) == 4
    await clock.advance(700)
    assert (await frozen_clock_client.get(document["urls"]["stream"])).status == 404
    assert (await frozen_clock_client.get("/v1/streams/nothing")).status == 404


async def test_a_reader_that_leaves_cancels_nothing(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """The run goes on to its end, and another reader gets all of it."""
    given = {"prompt": "x [[tokens=6 boot_ms=0 first_ms=100 interval_ms=100]]"}
    document = await frozen_clock_client.created(LLAMA, given)
    async with frozen_clock_client.session.get(document["urls"]["stream"]) as answer:
        await answer.content.readany()
    await clock.advance(2)
    final = (await frozen_clock_client.get(document["urls"]["get"])).json
    assert final["status"] == "succeeded"
    assert len(await frozen_clock_client.events(document)) == 7


async def test_an_event_at_the_last_moment_is_not_lost(clock: ManualClock) -> None:
    """However it falls between a reader's look and its wait, the reader gets it at once."""
    for turns in range(8):
        stream = StreamLog()
        events = stream.follow(ReplicateDialect(str), None, clock, 30)
        first = asyncio.ensure_future(anext(events))
        for _ in range(turns):
            await asyncio.sleep(0)
        stream.output(clock.now(), "x")
        assert b"data: x" in await first
        await events.aclose()


async def test_a_stream_stays_open_after_done(open_sandbox: Opener) -> None:
    """Whoever leaves at `done` never sees the end of the stream."""
    async with open_sandbox(stream_linger=600) as caller:
        document = await caller.created(LLAMA, {"prompt": "x [[tokens=1]]"})
        async with caller.session.get(document["urls"]["stream"]) as answer:
            await answer.content.readuntil(b"event: done\n")
            await answer.content.readuntil(b"\n\n")
            await caller.ended(document)
            assert not answer.content.at_eof()


async def test_an_idle_stream_is_closed(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """Half a minute without an event: a comment that says so, and the end, without `done`."""
    given = {"prompt": "x [[tokens=3 boot_ms=70000 first_ms=0 interval_ms=29000]]"}
    document = await frozen_clock_client.created(LLAMA, given)
    opened = asyncio.create_task(frozen_clock_client.stream(document))
    await clock.sleeping(2)
    await clock.advance(30)
    assert await opened == b": hi\n\n:408: 408 Request Timeout\n\n"
    opened = asyncio.create_task(frozen_clock_client.stream(document))
    await clock.sleeping(2)
    await clock.advance(30)
    assert parse_events(await opened) == []
    opened = asyncio.create_task(frozen_clock_client.stream(document))
    await clock.sleeping(2)
    await clock.advance(100)
    events = parse_events(await opened)
    assert [each.name for each in events] == ["output"] * 3 + ["done"]


async def test_a_closed_stream_can_be_resumed(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """The last id brings what came while nobody listened."""
    given = {"prompt": "x [[tokens=4 boot_ms=0 first_ms=0 interval_ms=40000]]"}
    document = await frozen_clock_client.created(LLAMA, given)
    await clock.advance(0)
    opened = asyncio.create_task(frozen_clock_client.stream(document))
    await clock.sleeping(2)
    await clock.advance(30)
    (first,) = parse_events(await opened)
    await clock.advance(100)
    rest = await frozen_clock_client.events(document, Last_Event_ID=first.id)
    assert [each.name for each in rest] == ["output"] * 3 + ["done"]


async def test_the_idle_timeout_is_configurable(open_sandbox: Opener, clock: ManualClock) -> None:
    """None waits for ever."""
    async with open_sandbox(clock, stream_idle_timeout=None) as caller:
        document = await caller.created(LLAMA, {"prompt": "x [[tokens=1 boot_ms=900000]]"})
        opened = asyncio.create_task(caller.stream(document))
        await clock.sleeping(1)
        await clock.advance(901)
        assert b"event: done" in await opened


async def test_other_models_stream_their_finished_outputs(sandbox_client: SandboxClient) -> None:
    """Links to files, or a verdict, at another path, as the npm client looks for it."""
    given = {"prompt": "x", "num_outputs": 2}
    pictures = await sandbox_client.created(SCHNELL, given)
    verdict = await sandbox_client.created(GUARD, {"prompt": "hello"})
    for document in (pictures, verdict):
        path = document["urls"]["stream"].removeprefix(sandbox_client.sandbox.url)
        assert re.fullmatch("/v1/files/[0-9a-z]{52}", path)
        events = await sandbox_client.events(document)
        output = (await sandbox_client.ended(document))["output"]
        assert [each.data for each in events[:-1]] == ([output] if output == "safe" else output)
        assert {each.name for each in events[:-1]} == {"output"}
        assert (events[-1].name, events[-1].data) == ("done", "{}")
        rest = await sandbox_client.events(document, Last_Event_ID=events[0].id)
        assert rest == events[1:]
        assert (await sandbox_client.get(path.replace("files", "streams"))).status == 404
    failed = await sandbox_client.created(SCHNELL, {"prompt": "x [[fail=no]]"})
    names = [each.name for each in await sandbox_client.events(failed)]
    assert names == ["error", "done"]
    assert (await sandbox_client.get("/v1/files/" + "a" * 52, Authorization="")).status == 404
    bark = await sandbox_client.created(BARK, {"prompt": "x"})
    assert "stream" not in bark["urls"], "an object has no such form"


async def test_cogs_dialect(open_sandbox: Opener) -> None:
    """JSON of all that happens, without ids; the whole prediction last."""
    async with open_sandbox(stream_dialect="cog") as caller:
        document = await caller.created(LLAMA, {"prompt": "[[say=Onions| bloom\\n]]", "typo": 1})
        events = [
            (
                each.partition("\n")[0].removeprefix("event: "),
                orjson.loads(each.partition("data: ")[2]),
            )
            for each in (await caller.stream(document)).decode().split("\n\n")[:-1]
            if not each.startswith(":")
        ]
        assert events[0] == ("start", {"id": document["id"], "status": "processing"})
        outputs = [data for name, data in events if name == "output"]
        assert outputs == [{"chunk": "Onions", "index": 0}, {"chunk": " bloom\n", "index": 1}]
        assert events[-1] == ("completed", await caller.ended(document))
        metrics = {data["name"]: data["value"] for name, data in events if name == "metric"}
        assert metrics["output_token_count"] == 2
        failed = await caller.created(LLAMA, {"prompt": "x [[fail=no]] [[fail_after=1]]"})
        stream = await caller.stream(failed)
        assert b"event: error" not in stream
        assert orjson.loads(stream.split(b"data: ")[-1])["status"] == "failed"


async def test_cogs_dialect_replays_the_last_events_only(open_sandbox: Opener) -> None:
    """A reader that comes too late is told so; models that did not opt in do not stream."""
    async with open_sandbox(stream_dialect="cog", stream_history=12) as caller:
        short = await caller.created(LLAMA, {"prompt": "x [[tokens=3]]"})
        await caller.ended(short)
        first = await caller.stream(short)
        assert first.count(b"event: output") == 3
        assert await caller.stream(short) == first
        long = await caller.created(LLAMA, {"prompt": "x [[tokens=30]]"})
        await caller.ended(long)
        late = await caller.stream(long)
        assert late.startswith(b"event: error\ndata: {")
        assert orjson.loads(late.partition(b"data: ")[2])["skipped"] > 0
        picture = await caller.created(SCHNELL, {"prompt": "x"})
        answer = await caller.get(picture["urls"]["stream"])
        assert (answer.status, answer.json["status"]) == (406, 406)
    schema = openapi_document(next(each for each in load_catalog() if each.slug == LLAMA))
    assert schema["paths"]["/predictions"]["post"]["x-cog-streaming"] is True


async def test_the_token_rate_is_configurable(open_sandbox: Opener, clock: ManualClock) -> None:
    """45 tokens a second at twice their time: 1 second for 22."""
    async with open_sandbox(clock, time_scale=0, token_time_scale=2) as caller:
        document = await caller.created(LLAMA, {"prompt": "x [[first_ms=0 tokens=100]]"})
        await clock.advance(1)
        running = (await caller.get(document["urls"]["get"])).json
        assert len(running["output"]) == 1 + 22
