"""Progress, log, expected end and place in the queue, as those who watch are told of them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, generations_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_server.generations import watch as news_limit
from mediagate_server.generations.execution.log_progress import MAX_LOG_CHARACTERS
from tests.builders import image_request, stream_text_request
from tests.media.file_server import file

from .scripted_upstream import ScriptedUpstream, prediction, says
from .stubs import OpenServer, Stubs

FULL = generation_pb2.GENERATION_VIEW_FULL
State = generation_pb2.Generation
Response = generations_pb2.WatchGenerationResponse
CANARY = "a heron that nobody else may read of"


class ScriptedRun:
    """What upstream says of a prediction; a test changes it while it runs."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self._upstream = upstream
        self.log = ""
        self.status = "processing"
        upstream.creates = [says(prediction(upstream, "starting"), 201)]
        upstream.gets = [self.answer]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """GET of the prediction."""
        more: dict[str, Any] = {"logs": self.log}
        if self.status == "succeeded":
            picture = file(b"\x89PNG\r\n\x1a\n" + bytes(64), "image/png")
            more["output"] = [self._upstream.files.put("/made.png", picture)]
        return await says(prediction(self._upstream, self.status, **more))(request)


@pytest.fixture
def run(scripted_upstream: ScriptedUpstream) -> ScriptedRun:
    """One that is being made."""
    return ScriptedRun(scripted_upstream)


async def begun(stubs: Stubs) -> str:
    """A picture that is on its way; its generation's id."""
    request = image_request(prompt=CANARY, wait=Duration())
    return (await stubs.image.GenerateImage(request)).generation.id


def watching(stubs: Stubs, name: str, after: int = 0, view: Any = FULL) -> AsyncIterator[Response]:
    """All that is told of it."""
    request = generations_pb2.WatchGenerationRequest(id=name, after_sequence=after, view=view)
    watch: AsyncIterator[Response] = aiter(stubs.generations.WatchGeneration(request))
    return watch


async def until_progress(watch: AsyncIterator[Response], progress: float) -> list[Response]:
    """What is told until it is so far."""
    seen = []
    async for change in watch:
        seen.append(change)
        generation = change.generation
        if generation.HasField("progress") and generation.progress == progress:
            break
    return seen


async def test_progress_and_logs_are_pushed(
    scripted_upstream: ScriptedUpstream,
    run: ScriptedRun,
    stubs: Stubs,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """By each look at upstream; sequences grow, and only who asks for the log is shown it."""
    name = await begun(stubs)
    full, basic = watching(stubs, name), watching(stubs, name, view=0)
    seen, plain = [], []
    run.log = f"Prompt: {CANARY}\n"
    for percent in (0, 45, 90):
        run.log += f"\r{percent:3}%|{'█' * (percent // 10)} | {percent}/100 [00:03<00:04]"
        seen += await until_progress(full, percent / 100)
        plain += await until_progress(basic, percent / 100)
        assert seen[-1].generation.logs == run.log
        request = generations_pb2.GetGenerationRequest(id=name)
        assert (await stubs.generations.GetGeneration(request)).generation.progress == percent / 100
    run.log += "\nsaving\n"
    async for change in full:
        seen.append(change)
        if change.generation.logs == run.log:
            break
    run.status = "succeeded"
    seen += [change async for change in full]
    plain += [change async for change in basic]
    for changes in (seen, plain):
        sequences = [change.sequence for change in changes]
        assert sequences == sorted(set(sequences))
        statuses = [
            change.generation.progress
            for change in changes
            if change.generation.HasField("progress")
        ]
        assert statuses == sorted(statuses)
        assert set(statuses) == {0, 0.45, 0.9, 1}
        assert changes[-1].generation.state == State.STATE_SUCCEEDED
    assert not any(change.generation.logs for change in plain)
    assert seen[-1].generation.logs == run.log
    out, err = capfd.readouterr()
    assert CANARY not in out + err
    assert "saving" not in out + err


async def test_a_watch_resumes_from_any_sequence(
    scripted_upstream: ScriptedUpstream, run: ScriptedRun, open_server: OpenServer
) -> None:
    """Also by the next server: nothing is told twice, and sequences grow on."""
    async with open_server(scripted_upstream.url) as (stubs, _):
        name = await begun(stubs)
        watch = watching(stubs, name)
        run.log = "step 1/10\n"
        seen = await until_progress(watch, 0.1)
    async with open_server(scripted_upstream.url) as (stubs, _):
        watch = watching(stubs, name, seen[-1].sequence)
        run.log += "step 5/10\n"
        seen += await until_progress(watch, 0.5)
        run.status = "succeeded"
        seen += [change async for change in watch]
    sequences = [change.sequence for change in seen]
    assert sequences == sorted(set(sequences))


async def test_an_endless_log_is_truncated(
    scripted_upstream: ScriptedUpstream, run: ScriptedRun, stubs: Stubs
) -> None:
    """Its end, from the beginning of a line on."""
    name = await begun(stubs)
    watch = watching(stubs, name)
    for percent in (10, 20):
        run.log += "a line of many\n" * 30_000 + f"Progress: {percent}%\n"
        seen = await until_progress(watch, percent / 100)
        assert 0 < len(seen[-1].generation.logs) <= MAX_LOG_CHARACTERS
        assert seen[-1].generation.logs.startswith("a line")
        assert seen[-1].generation.logs.endswith(f"Progress: {percent}%\n")
    run.status = "succeeded"
    last = [change async for change in watch][-1]
    assert last.generation.state == State.STATE_SUCCEEDED


async def test_the_expected_end_is_based_on_earlier_runs(
    scripted_upstream: ScriptedUpstream, run: ScriptedRun, open_server: OpenServer
) -> None:
    """Unknown before there was one; also by what an earlier server has run; over once it ends."""

    async def generate(stubs: Stubs) -> list[generation_pb2.Generation]:
        run.status, run.log = "processing", "step 1/4\n"
        watch = watching(stubs, await begun(stubs))
        seen = await until_progress(watch, 0.25)
        run.log += "step 2/4\n"
        seen += await until_progress(watch, 0.5)
        run.status = "succeeded"
        seen += [change async for change in watch]
        return [change.generation for change in seen]

    async with open_server(scripted_upstream.url) as (stubs, _):
        first, second = await generate(stubs), await generate(stubs)
    async with open_server(scripted_upstream.url) as (stubs, _):
        third = await generate(stubs)
    assert not any(generation.HasField("expected_complete_time") for generation in first)
    for generations in (second, third):
        running = [
            generation for generation in generations if generation.state == State.STATE_RUNNING
        ]
        assert (
            len({generation.expected_complete_time.ToNanoseconds() for generation in running}) == 1
        )
        assert (
            len({generation.expected_complete_time_p90.ToNanoseconds() for generation in running})
            == 1
        )
        for generation in running:
            begins = generation.start_time.ToNanoseconds()
            assert begins < generation.expected_complete_time.ToNanoseconds()
            assert (
                generation.expected_complete_time.ToNanoseconds()
                <= generation.expected_complete_time_p90.ToNanoseconds()
            )
        assert not generations[-1].HasField("expected_complete_time")


async def test_queue_positions_are_pushed_as_they_change(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """To who watches and to who streams: without asking again, and without another change."""
    async with open_server(sandbox.url, creates_per_minute=1) as (stubs, _):
        names = [await begun(stubs) for _ in range(4)]
        watch = watching(stubs, names[-1])
        before = (await anext(watch)).generation
        stream = aiter(stubs.text.StreamText(stream_text_request(prompt="last")))
        async for event in stream:
            if event.status.queue_position:
                break
        assert event.status.queue_position == before.queue_position + 1
        await stubs.generations.CancelGeneration(
            generations_pb2.CancelGenerationRequest(id=names[-2])
        )
        after = (await anext(watch)).generation
        assert after.state == before.state == State.STATE_QUEUED
        assert after.queue_position == before.queue_position - 1
        assert after.expected_start_time.ToDatetime() < before.expected_start_time.ToDatetime()
        moved = (await anext(stream)).status
        assert moved.queue_position == before.queue_position
        assert moved.state == State.STATE_QUEUED


async def test_the_sandbox_reports_progress(sandbox_stubs: Stubs) -> None:
    """Its bars are read like any model's, and those of several outputs together."""
    request = image_request(prompt="[[run_ms=2000]] A cat", wait=Duration())
    generation = (await sandbox_stubs.image.GenerateImage(request)).generation
    progress_events = [
        change.generation.progress
        async for change in watching(sandbox_stubs, generation.id)
        if change.generation.HasField("progress")
    ]
    assert progress_events == sorted(progress_events)
    assert {0.25, 0.5, 0.75} & set(progress_events)


async def test_progress_of_several_outputs_is_averaged(
    scripted_upstream: ScriptedUpstream, run: ScriptedRun, stubs: Stubs
) -> None:
    """Each is a run of its own: two halves done are one half of all."""
    request = image_request(prompt=CANARY, count=2, wait=Duration(), model="flux-pro")
    generation = (await stubs.image.GenerateImage(request)).generation
    assert len(generation.attempts) == 2
    watch = watching(stubs, generation.id)
    run.log = "step 1/2\n"
    seen = await until_progress(watch, 0.5)
    run.status = "succeeded"
    seen += [change async for change in watch]
    progress_values = [
        event.generation.progress for event in seen if event.generation.HasField("progress")
    ]
    assert progress_values == sorted(progress_values)
    assert {*progress_values} <= {0.25, 0.5, 0.75, 1}


async def test_progress_stays_after_cancellation(
    scripted_upstream: ScriptedUpstream, run: ScriptedRun, stubs: Stubs
) -> None:
    """It neither falls to nothing, nor looks as if it were whole."""
    name = await begun(stubs)
    watch = watching(stubs, name)
    run.log = "step 1/2\n"
    seen = await until_progress(watch, 0.5)
    await stubs.generations.CancelGeneration(generations_pb2.CancelGenerationRequest(id=name))
    seen += [change async for change in watch]
    assert seen[-1].generation.state == State.STATE_CANCELLED
    assert seen[-1].generation.progress == 0.5


async def test_progress_restarts_with_a_fallback(
    scripted_upstream: ScriptedUpstream, run: ScriptedRun, stubs: Stubs
) -> None:
    """Its run is another one: what the first has told is not its own."""
    name = await begun(stubs)
    watch = watching(stubs, name)
    run.log = "step 9/10\n"
    seen = await until_progress(watch, 0.9)
    run.status = "failed"
    async for change in watch:
        if len(change.generation.attempts) > 1:
            run.status, run.log = "processing", "step 1/10\n"
            break
    seen = await until_progress(watch, 0.1)
    assert all(event.generation.progress in (0, 0.1) for event in seen[1:])
    assert "step 9/10" not in seen[-1].generation.logs
    run.status = "succeeded"
    last = [change async for change in watch][-1]
    assert last.generation.state == State.STATE_SUCCEEDED


async def test_progress_updates_are_rate_limited_without_losing_watches(
    scripted_upstream: ScriptedUpstream,
    run: ScriptedRun,
    stubs: Stubs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One tenant's are told so many a second; who had to wait is told as it stands then."""
    monkeypatch.setattr(news_limit, "MAX_NOTIFICATIONS", 5)
    name = await begun(stubs)
    watches = [watching(stubs, name) for _ in range(12)]
    run.log = "step 1/4\n"
    for watch in watches:
        await until_progress(watch, 0.25)
    run.log += "step 2/4\n"
    seen = [await until_progress(watch, 0.5) for watch in watches]
    assert all(change.generation.state == State.STATE_RUNNING for each in seen for change in each)
    run.status = "succeeded"
    for watch in watches:
        assert [change async for change in watch][-1].generation.progress == 1


def test_progress_updates_per_second_are_limited_per_tenant() -> None:
    """Of each tenant's; the next second is a new one."""
    clock = Stepping()
    limit = news_limit.NotificationLimit(clock)
    for _ in range(2):
        passed = [limit.take("a") for _ in range(news_limit.MAX_NOTIFICATIONS + 50)]
        assert passed.count(True) == news_limit.MAX_NOTIFICATIONS
        assert limit.take("b")
        clock.now += timedelta(seconds=1)


class Stepping:
    """The time of day, as a test has it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now
