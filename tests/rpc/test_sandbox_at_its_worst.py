"""The gate against what the sandbox does on a bad day: silence, no credit."""

import asyncio
import uuid

import grpc
import pytest

from mediagate.v1 import generation_pb2, options_pb2, text_pb2
from mediagate_sandbox.control import SandboxControl
from mediagate_sandbox.server import Sandbox, SandboxSettings

from .failures import reason_of
from .gates import Opener, Stubs

OPTIONS = options_pb2.GenerationOptions(model="llama-70b")


async def test_a_stream_that_falls_silent_is_taken_up_again(open_gate: Opener) -> None:
    """Closed without `done` in every pause, it ends whole, from one create."""
    settings = SandboxSettings(port=0, stream_idle_timeout=0.05)
    async with Sandbox(settings) as sandbox, open_gate(sandbox.url) as (stubs, _):
        prompt = "[[say=one |two |three |four]] [[boot_ms=150 first_ms=150 interval_ms=150]]"
        request = text_pb2.StreamTextRequest(prompt=prompt, options=OPTIONS)
        events = [each async for each in stubs.text.StreamText(request)]
        assert "".join(each.delta.text for each in events) == "one two three four"
        assert events[-1].WhichOneof("event") == "completed"
        state = await asyncio.to_thread(SandboxControl(sandbox.url).state)
        assert state["creates"]["total"] == 1
        (opened,) = state["streams_by_prediction"].values()
        assert opened > 1


async def test_no_credit(sandbox: Sandbox, sandboxed: Stubs) -> None:
    """UPSTREAM_ACCOUNT without a word about bills; the same id may be sent again later."""
    control = SandboxControl(sandbox.url)
    await asyncio.to_thread(control.limits, credit="none")
    request = text_pb2.GenerateTextRequest(
        prompt="x", request_id=str(uuid.uuid4()), options=OPTIONS
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sandboxed.text.GenerateText(request)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(caught.value) == "UPSTREAM_ACCOUNT"
    assert "billing" not in str(caught.value)
    await asyncio.to_thread(control.limits, credit="enough")
    answer = await sandboxed.text.GenerateText(request)
    assert answer.generation.state == generation_pb2.Generation.STATE_SUCCEEDED
    bill = await asyncio.to_thread(control.bill)
    assert len(bill["entries"]) == 1
