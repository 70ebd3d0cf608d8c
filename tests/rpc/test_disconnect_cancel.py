"""Callers that leave without a grace: upstream is cancelled at once, and what ran is what is paid.

What the grace does where the caller set none: test_disconnect_grace.py.
"""

import asyncio
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, generations_pb2, options_pb2, text_pb2
from mediagate_sandbox.control_client import SandboxControl
from mediagate_sandbox.server import Sandbox
from tests.builders import stream_text_request, video_request
from tests.grpc_errors import rpc_error

from .generation_waits import inject_faults, wait_for_end
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
Options = options_pb2.GenerationOptions
AT_ONCE = Options(disconnect_grace=Duration())
CHUNKS = 16


async def start_call(sandbox: Sandbox, what: str) -> Any:
    """The sandbox's bill, or its state."""
    return await asyncio.to_thread(getattr(SandboxControl(sandbox.url), what))


async def leave_at(stubs: Stubs, chunk: int) -> str:
    """Read so many chunks of a stream, then be gone; the generation's id."""
    # Long enough: several tokens may come as one chunk, and whoever leaves does so before its end.
    prompt = f"[[tokens=4000 interval_ms=40 first_ms=40]] Hello {chunk}"
    call = stubs.text.StreamText(stream_text_request(prompt=prompt, options=AT_ONCE))
    name = ""
    async for event in call:
        name = name or event.started.generation_id
        if not chunk:
            break
        chunk -= bool(event.delta.text)
    call.cancel()
    return name


async def test_a_disconnect_at_any_chunk_is_settled_as_billed(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """At every chunk of a stream, the create's answer and the last chunk among them."""
    async with open_server(sandbox.url) as (stubs, _):
        names = await asyncio.gather(*(leave_at(stubs, chunk) for chunk in range(CHUNKS)))
        generations = [await wait_for_end(stubs, name) for name in names]
    billed = await start_call(sandbox, "bill")
    bill = {entry["id"]: entry for entry in billed["entries"]}
    assert len(bill) == sum(
        bool(generation.attempts[-1].prediction_id) for generation in generations
    )
    assert {generation.state for generation in generations} == {State.STATE_CANCELLED}
    for generation in generations:
        attempt = generation.attempts[-1]
        nanos = bill[attempt.prediction_id]["nanos"] if attempt.prediction_id else 0
        assert generation.cost.usd_nanos == nanos
    cancelled = {cancel["prediction"] for cancel in (await start_call(sandbox, "state"))["cancels"]}
    assert cancelled >= {generation.attempts[-1].prediction_id for generation in generations} - {""}


async def test_a_disconnect_before_the_creates_response_cancels_later(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """The create is on its way: it cannot be called back, so it is cancelled once it is known."""
    slow = {"do": "delay", "on": "create", "ms": 500, "at": "answer"}
    await inject_faults(sandbox, slow)
    async with open_server(sandbox.url) as (stubs, _):
        name = await leave_at(stubs, 0)
        generation = await wait_for_end(stubs, name)
    (entry,) = (await start_call(sandbox, "bill"))["entries"]
    assert generation.state == State.STATE_CANCELLED
    assert entry["status"] in {"canceled", "aborted"}
    assert generation.cost.usd_nanos == entry["nanos"]


async def test_a_grace_period_delays_cancellation(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Within it nothing is cancelled; DETACH never does."""
    async with open_server(sandbox.url) as (stubs, _):
        calls = []
        for options in (
            Options(disconnect_grace=Duration(seconds=60)),
            Options(on_disconnect=options_pb2.ON_DISCONNECT_DETACH),
        ):
            call = stubs.text.StreamText(
                stream_text_request(prompt="[[tokens=30 interval_ms=20]] Hello", options=options)
            )
            async for event in call:
                if event.delta.text:
                    break
                if event.HasField("started"):
                    calls.append(event.started.generation_id)
            call.cancel()
        generations = [await wait_for_end(stubs, name) for name in calls]
    assert [generation.state for generation in generations] == [State.STATE_SUCCEEDED] * 2
    assert [generation.usage.output_tokens for generation in generations] == [30, 30]


async def test_a_returned_unary_call_detaches_the_generation(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """A video was answered once: whoever waits for it later and leaves ends nothing."""
    async with open_server(sandbox.url) as (stubs, _):
        request = video_request(prompt="[[run_ms=1500]] A dog", request_id=str(uuid4()))
        begun = await stubs.video.GenerateVideo(request)
        request.wait.FromSeconds(60)
        waiting = stubs.video.GenerateVideo(request)
        watch = stubs.generations.WatchGeneration(
            generations_pb2.WatchGenerationRequest(id=begun.generation.id)
        )
        async for change in watch:
            if change.generation.state == State.STATE_RUNNING:
                break
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        generation = await wait_for_end(stubs, begun.generation.id)
    assert generation.state == State.STATE_SUCCEEDED


async def test_watchers_do_not_affect_cancellation(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """The paid call leaves while others wait and watch: it is cancelled, and they are told."""
    async with open_server(sandbox.url) as (stubs, _):
        call = stubs.text.StreamText(
            stream_text_request(prompt="[[tokens=500 interval_ms=50]] Hello", options=AT_ONCE)
        )
        name = ""
        async for event in call:
            name = name or event.started.generation_id
            if event.delta.text:
                break
        waiting = asyncio.create_task(wait_for_end(stubs, name))
        watch = stubs.generations.WatchGeneration(generations_pb2.WatchGenerationRequest(id=name))
        states = []
        async for change in watch:
            states.append(change.generation.state)
            call.cancel()
        assert states[-1] == (await waiting).state == State.STATE_CANCELLED


async def test_an_expired_rpc_deadline_is_a_disconnect(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """A stream whose rpc deadline passes is cancelled upstream like any other that left."""
    async with open_server(sandbox.url) as (stubs, _):
        call = stubs.text.StreamText(
            stream_text_request(prompt="[[tokens=500 interval_ms=50]] Hello", options=AT_ONCE),
            timeout=1.0,
        )
        first = await call.read()
        assert isinstance(first, text_pb2.StreamTextResponse)
        name = first.started.generation_id
        error = await rpc_error(_drained(call))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await wait_for_end(stubs, name)).state == State.STATE_CANCELLED


async def _drained(call: Any) -> None:
    """Read on to the end of a stream."""
    while await call.read() is not grpc.aio.EOF:
        pass
