"""Unary paid calls that reach the rpc's own deadline: an answer just before it, and no leaving."""

from typing import Any

import pytest

from mediagate.v1 import generation_pb2

from .billable_methods import CALLS, runs
from .fake_clocks import ManualTimerClock
from .generation_waits import get_generation, wait_for_end
from .scripted_upstream import ScriptedUpstream, prediction, says
from .stubs import OpenServer

METRICS = {"input_token_count": 12, "output_token_count": 34, "predict_time": 1.25}
State = generation_pb2.Generation
UNARY = [method for method in CALLS if not method.startswith("Stream")]


@pytest.mark.parametrize("method", UNARY)
async def test_an_expired_wait_returns_the_running_generation(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, method: str
) -> None:
    """With status OK; it goes on, longer than any grace, and nothing is cancelled."""
    runs(scripted_upstream)
    clock = ManualTimerClock()
    async with open_server(scripted_upstream.url, clock=clock) as (stubs, server):
        service, request = CALLS[method]
        call: Any = getattr(getattr(stubs, service), method)(request, timeout=5.0)
        await scripted_upstream.received(1)
        # The wait, which ends before the deadline. gRPC rounds a timeout up by some milliseconds.
        await clock.until_timer_between(4.1, 4.85)
        clock.advance(4.0)
        assert not call.done()
        clock.advance(0.85)
        generation = (await call).generation
        assert generation.state < State.STATE_SUCCEEDED
        await server._api.rpc_metrics.wait_until_idle()
        clock.advance(60.0)
        generation = await get_generation(stubs, generation.id)
        assert generation.state < State.STATE_SUCCEEDED
    assert not scripted_upstream.cancelled.is_set()
    assert len(scripted_upstream.posted) == 1


async def test_the_generation_ends_after_the_wait(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """By its id."""
    runs(scripted_upstream)
    async with open_server(scripted_upstream.url) as (stubs, _):
        _, request = CALLS["GenerateText"]
        generation = (await stubs.text.GenerateText(request, timeout=0.7)).generation
        done = prediction(scripted_upstream, "succeeded", output=["a"], metrics=METRICS)
        scripted_upstream.gets = [says(done)]
        assert (await wait_for_end(stubs, generation.id)).state == State.STATE_SUCCEEDED
