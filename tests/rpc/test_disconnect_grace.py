"""Callers that leave without an answer, of every paid rpc: unset, the grace is 15 s; 0 is 0.

Until it is over nothing is cancelled, whoever comes back gets what was begun, and what is not sent
yet is not sent.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, generations_pb2, options_pb2
from mediagate_server.app import Server
from tests.builders import stream_text_request
from tests.grpc_errors import rpc_error

from .billable_methods import CALLS, runs
from .fake_clocks import ManualTimerClock
from .generation_waits import wait_for_end
from .scripted_upstream import Answer, ScriptedUpstream, says
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
GRACE = 15.0


class LeavingCaller:
    """One paid rpc, again and again under one request_id."""

    def __init__(self, stubs: Stubs, server: Server, method: str, **options: Any) -> None:
        self.stubs = stubs
        self._server = server
        service, request = CALLS[method]
        self._send = getattr(getattr(stubs, service), method)
        self.request = type(request).FromString(request.SerializeToString())
        self.request.request_id = str(uuid4())
        self.request.options.MergeFrom(options_pb2.GenerationOptions(**options))
        self.call: Any = None

    async def begin(self) -> str:
        """Call, and wait until the generation is there; its id."""
        self.call = self._send(self.request)
        if hasattr(self.call, "read"):
            await self.call.read()
        while True:
            for generation in await self._listed():
                if generation.request_id == self.request.request_id:
                    return generation.id

    async def leave(self) -> None:
        """The rpc ends without an answer; until the server knows of it."""
        self.call.cancel()
        await self._server._api.rpc_metrics.wait_until_idle()

    async def leave_queued(self, name: str) -> None:
        """The same while its second create waits for its turn."""
        while (await self.state(name)).attempts[-1].ordinal < 2:
            pass
        await self.leave()

    async def return_late(self, name: str, clock: ManualTimerClock) -> None:
        """Call again in the last moment of the grace, until it is no longer counted."""
        grace = clock.timer_of(GRACE)
        clock.advance(GRACE - 0.1)
        assert await self.begin() == name
        while not grace.cancelled:
            await self.state(name)

    async def state(self, name: str) -> generation_pb2.Generation:
        """The generation as it stands."""
        request = generations_pb2.GetGenerationRequest(id=name)
        return (await self.stubs.generations.GetGeneration(request)).generation

    async def _listed(self) -> list[generation_pb2.Generation]:
        request = generations_pb2.ListGenerationsRequest()
        return list((await self.stubs.generations.ListGenerations(request)).generations)


@asynccontextmanager
async def left_running(
    scripted: ScriptedUpstream, open_server: OpenServer, method: str, **options: Any
) -> AsyncIterator[tuple[LeavingCaller, str, ManualTimerClock]]:
    """One who left while upstream runs what was asked for, and its generation's id."""
    runs(scripted)
    clock = ManualTimerClock()
    async with open_server(scripted.url, clock=clock) as (stubs, server):
        caller = LeavingCaller(stubs, server, method, **options)
        name = await caller.begin()
        await scripted.received(1)
        while (await caller.state(name)).state == State.STATE_SUBMITTING:
            pass  # The answer to the create is on its way, or its prediction is being claimed.
        await caller.leave()
        yield caller, name, clock


@pytest.mark.parametrize("method", CALLS)
async def test_the_default_grace_is_fifteen_seconds(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, method: str
) -> None:
    """Nothing is cancelled before, and upstream is told then."""
    async with left_running(scripted_upstream, open_server, method) as (caller, name, clock):
        clock.advance(GRACE - 0.1)
        assert (await caller.state(name)).state in (State.STATE_STARTING, State.STATE_RUNNING)
        assert not scripted_upstream.cancelled.is_set()
        clock.advance(0.1)
        async with asyncio.timeout(20):
            await scripted_upstream.cancelled.wait()
    assert len(scripted_upstream.posted) == 1


@pytest.mark.parametrize("method", CALLS)
async def test_a_grace_of_zero_cancels_at_once(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, method: str
) -> None:
    """Whoever says 0 means it: no time has to pass."""
    zero = Duration()
    async with (
        left_running(scripted_upstream, open_server, method, disconnect_grace=zero),
        asyncio.timeout(20),
    ):
        await scripted_upstream.cancelled.wait()


@pytest.mark.parametrize("method", CALLS)
async def test_reconnecting_within_the_grace_attaches(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, method: str
) -> None:
    """The same request_id, however long it then takes: no second run, and nothing cancelled."""
    async with left_running(scripted_upstream, open_server, method) as (caller, name, clock):
        await caller.return_late(name, clock)
        clock.advance(GRACE * 2)
        await caller.state(name)
        assert not scripted_upstream.cancelled.is_set()
        caller.call.cancel()
    assert len(scripted_upstream.posted) == 1


def throttled() -> Answer:
    """Come again in a while."""
    return says({"detail": "Request was throttled."}, 429, {"Retry-After": "1"})


@asynccontextmanager
async def left_queued(
    scripted: ScriptedUpstream, open_server: OpenServer, method: str
) -> AsyncIterator[tuple[LeavingCaller, str, ManualTimerClock]]:
    """One who left before its create's turn, its generation's id, and another who took the turn."""
    runs(scripted, throttled())
    clock = ManualTimerClock()
    async with open_server(scripted.url, clock=clock) as (stubs, server):
        caller, other = LeavingCaller(stubs, server, method), LeavingCaller(stubs, server, method)
        name = await caller.begin()
        await caller.leave_queued(name)
        await other.begin()
        await scripted.received(2)
        yield caller, name, clock
        other.call.cancel()


@pytest.mark.parametrize("method", CALLS)
async def test_a_queued_create_is_not_sent_without_a_caller(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, method: str
) -> None:
    """Its turn goes to others; at the grace's end it is over, and nothing was paid."""
    async with left_queued(scripted_upstream, open_server, method) as (caller, name, clock):
        assert (await caller.state(name)).state == State.STATE_QUEUED
        clock.advance(GRACE)
        generation = await wait_for_end(caller.stubs, name)
    assert generation.state == State.STATE_CANCELLED
    assert generation.cost.usd_nanos == 0
    assert not any(attempt.prediction_id for attempt in generation.attempts)
    assert len(scripted_upstream.posted) == 2


@pytest.mark.parametrize("method", CALLS)
async def test_a_queued_create_is_sent_after_a_reconnect(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, method: str
) -> None:
    """After its turn had come and gone."""
    async with left_queued(scripted_upstream, open_server, method) as (caller, name, clock):
        await caller.return_late(name, clock)
        await scripted_upstream.received(3)
        clock.advance(GRACE * 2)
        await caller.state(name)
        assert not scripted_upstream.cancelled.is_set()
        caller.call.cancel()


async def test_detached_creates_are_sent_without_a_caller(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """DETACH, and an answer before the end: neither needs a caller."""
    runs(scripted_upstream, throttled())
    clock = ManualTimerClock()
    async with open_server(scripted_upstream.url, clock=clock) as (stubs, server):
        detached = options_pb2.ON_DISCONNECT_DETACH
        caller = LeavingCaller(stubs, server, "GenerateImage", on_disconnect=detached)
        name = await caller.begin()
        await caller.leave_queued(name)
        clock.advance(GRACE - 0.1)
        await scripted_upstream.received(2)
    assert not scripted_upstream.cancelled.is_set()


async def test_an_expired_deadline_starts_the_grace(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """A stream that reached its own deadline is held like one that was cut."""
    runs(scripted_upstream)
    clock = ManualTimerClock()
    async with open_server(scripted_upstream.url, clock=clock) as (stubs, server):
        call = stubs.text.StreamText(stream_text_request(prompt="x"), timeout=0.5)
        assert (await rpc_error(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await server._api.rpc_metrics.wait_until_idle()
        assert not clock.timer_of(GRACE).cancelled
        clock.advance(GRACE - 0.1)
        assert not scripted_upstream.cancelled.is_set()
        clock.advance(0.1)
        async with asyncio.timeout(20):
            await scripted_upstream.cancelled.wait()
