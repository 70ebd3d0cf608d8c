"""Restarts: nothing accepted is lost, no text has a gap or a repeat."""

import asyncio
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, generations_pb2, text_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_server.app import Server
from tests.builders import stream_text_request, text_request, video_request
from tests.grpc_errors import reason_of, retry_after, rpc_error

from .generation_waits import get_bill, wait_for_end
from .scripted_upstream import ScriptedUpstream, prediction, says, stays_open, streams, token
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
METRICS = {"input_token_count": 12, "output_token_count": 4, "predict_time": 1.25}


class ResumingReader:
    """A client that reads a stream, and goes on where it was cut."""

    def __init__(self, request: text_pb2.StreamTextRequest) -> None:
        self.request = request
        self.text = ""
        self.started: list[text_pb2.TextStarted] = []
        self.completed: text_pb2.TextCompleted | None = None
        self._grown = asyncio.Event()

    async def read(self, stubs: Stubs, *, tokens: int = 10**6) -> None:
        """Read on from where it is, up to the end or to so many deltas."""
        self.request.after_sequence = len(self.text.encode())
        call = stubs.text.StreamText(self.request)
        async for event in call:
            if event.HasField("started"):
                self.started.append(event.started)
            if event.HasField("completed"):
                self.completed = event.completed
            if event.delta.text:
                assert event.sequence == len((self.text + event.delta.text).encode())
                self.text += event.delta.text
                self._grown.set()
                tokens -= 1
            if not tokens:
                call.cancel()
                return

    async def has(self, letters: int) -> None:
        """Until so many letters have come."""
        while len(self.text) < letters:
            self._grown.clear()
            await self._grown.wait()


async def end(server: Server) -> None:
    """End a server while its callers are still there."""
    await server.__aexit__(None, None, None)


async def test_a_client_killed_repeatedly_gets_the_text_once(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """400 tokens, 39 cuts, on one process: one prediction, no gap, no repeat."""
    reader = ResumingReader(
        stream_text_request(
            prompt="[[tokens=400 interval_ms=5]] Hello",
            request_id=str(uuid4()),
            disconnect_grace=Duration(seconds=30),
        )
    )
    async with open_server(sandbox.url) as (stubs, _):
        while reader.completed is None:
            await reader.read(stubs, tokens=10)
        generation = await wait_for_end(stubs, reader.started[0].generation_id)
    assert generation.text.text == reader.text
    assert len(reader.started) > 1
    assert [started.replayed for started in reader.started[:2]] == [False, True]
    assert len((await get_bill(sandbox))["entries"]) == 1
    assert generation.cost.usd_nanos == (await get_bill(sandbox))["total_nanos"]


async def test_a_text_continues_across_server_restarts(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Each server is ended in the midst of the text; the next one goes on from its checkpoints."""
    reader = ResumingReader(
        stream_text_request(prompt="[[tokens=200 interval_ms=20]] Hello", request_id=str(uuid4()))
    )
    for letters in (90, 120, 150):
        async with open_server(sandbox.url) as (stubs, server):
            reading = asyncio.create_task(reader.read(stubs))
            await reader.has(len(reader.text) + letters)
            await end(server)
            error = await rpc_error(reading)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(error) == "DRAINING"
        assert retry_after(error)
    async with open_server(sandbox.url) as (stubs, _):
        await reader.read(stubs)
        generation = await wait_for_end(stubs, reader.started[0].generation_id)
    assert reader.completed is not None
    assert generation.text.text == reader.text
    assert reader.completed.usage.output_tokens == 200
    assert len((await get_bill(sandbox))["entries"]) == 1


async def test_a_restart_resumes_the_stream_after_the_last_event(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """Also where the server repeats what came before it."""
    never = asyncio.Event()
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"), 201)]
    scripted_upstream.gets = [says(prediction(scripted_upstream, "processing"))]
    scripted_upstream.streams = [stays_open(token("a", 0), token("b", 1), until=never)]
    reader = ResumingReader(stream_text_request(prompt="Hello", request_id=str(uuid4())))
    async with open_server(scripted_upstream.url) as (stubs, server):
        reading = asyncio.create_task(reader.read(stubs))
        await reader.has(2)
        await end(server)
        await rpc_error(reading)
    done = prediction(scripted_upstream, "succeeded", output=["a", "b", "c"], metrics=METRICS)
    scripted_upstream.streams = [streams(token("a", 0), token("b", 1), token("c", 2), _DONE)]
    scripted_upstream.gets = [says(prediction(scripted_upstream, "processing")), says(done)]
    async with open_server(scripted_upstream.url) as (stubs, _):
        await reader.read(stubs)
    assert reader.text == "abc"
    assert reader.completed is not None
    assert scripted_upstream.last_event_ids == [None, "1690212292:1"]
    assert len(scripted_upstream.posted) == 1
    never.set()


async def test_text_without_ids_is_completed_from_the_record_after_a_restart(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """A repeat could not be told from news, so the stream is not opened a second time."""
    never = asyncio.Event()
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"), 201)]
    scripted_upstream.gets = [says(prediction(scripted_upstream, "processing"))]
    scripted_upstream.streams = [stays_open("event: output\ndata: ab\n\n", until=never)]
    reader = ResumingReader(stream_text_request(prompt="Hello", request_id=str(uuid4())))
    async with open_server(scripted_upstream.url) as (stubs, server):
        reading = asyncio.create_task(reader.read(stubs))
        await reader.has(2)
        await end(server)
        await rpc_error(reading)
    done = prediction(scripted_upstream, "succeeded", output=["ab", "c"], metrics=METRICS)
    scripted_upstream.gets = [says(prediction(scripted_upstream, "processing")), says(done)]
    async with open_server(scripted_upstream.url) as (stubs, _):
        await reader.read(stubs)
    assert reader.text == "abc"
    assert len(scripted_upstream.last_event_ids) == 1
    never.set()


async def test_queued_creates_are_sent_by_the_next_server(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """One create a minute: the second call waits, its server ends, the next one sends it."""
    waiting = [
        text_request(prompt=f"Hello {number}", request_id=str(uuid4()), wait=Duration())
        for number in range(3)
    ]
    async with open_server(sandbox.url, creates_per_minute=1) as (stubs, _):
        begun = [(await stubs.text.GenerateText(request)).generation for request in waiting]
        assert [generation.state for generation in begun[1:]] == [State.STATE_QUEUED] * 2
    assert len((await get_bill(sandbox))["entries"]) <= 1
    async with open_server(sandbox.url) as (stubs, _):
        generations = [await wait_for_end(stubs, generation.id) for generation in begun]
    assert [generation.state for generation in generations] == [State.STATE_SUCCEEDED] * 3
    assert all(len(generation.attempts) == 1 for generation in generations)
    billed = await get_bill(sandbox)
    assert len(billed["entries"]) == 3
    assert sum(generation.cost.usd_nanos for generation in generations) == billed["total_nanos"]


async def test_a_video_and_its_watch_resume_after_a_restart(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """The watch of one goes on from its sequence: no version twice, the end is told."""
    seen: list[generations_pb2.WatchGenerationResponse] = []
    async with open_server(sandbox.url) as (stubs, _):
        begun = await stubs.video.GenerateVideo(video_request(prompt="[[run_ms=1500]] A dog"))
        watch = stubs.generations.WatchGeneration(
            generations_pb2.WatchGenerationRequest(id=begun.generation.id)
        )
        async for change in watch:
            seen.append(change)
            if change.generation.state == State.STATE_RUNNING:
                break
    async with open_server(sandbox.url) as (stubs, _):
        watch = stubs.generations.WatchGeneration(
            generations_pb2.WatchGenerationRequest(
                id=begun.generation.id, after_sequence=seen[-1].sequence
            )
        )
        seen += [change async for change in watch]
    sequences = [change.sequence for change in seen]
    assert sequences == sorted(set(sequences))
    assert seen[-1].generation.state == State.STATE_SUCCEEDED
    assert len((await get_bill(sandbox))["entries"]) == 1


_DONE = "event: done\ndata: {}\n\n"
