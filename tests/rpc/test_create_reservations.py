"""Whoever is refused leaves the account's turns, and a broken model's probe, to others."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, generations_pb2, image_pb2, options_pb2
from mediagate_server.app import Server
from mediagate_server.errors import StoreUnavailable
from mediagate_server.upstream.settings import UpstreamLimits
from mediagate_server.wiring import upstream
from tests.builders import image_request
from tests.grpc_errors import reason_of, rpc_error

from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import OpenServer, Stubs
from .tenant_keys import channel_of, tenant
from .test_budgets import budget

State = generation_pb2.Generation
POOR = tenant("poor", budgets=(budget("none", 0),))
BUSY = tenant("busy", max_in_flight=1)
WELL = tenant("well")
ENDED = {"id": ID, "status": "succeeded", "output": ["https://replicate.delivery/x.png"]}
RUNS = {"id": ID, "status": "processing"}


def picture(**more: Any) -> image_pb2.GenerateImageRequest:
    """A request for one picture, that does not wait."""
    options = options_pb2.GenerationOptions(model="flux-schnell", **more.pop("options", {}))
    return image_request(prompt="x", wait=Duration(), options=options, **more)


class ConcurrentCallers:
    """Three tenants of one server."""

    def __init__(self, server: Server, channels: dict[str, grpc.aio.Channel]) -> None:
        self.server = server
        self._channels = channels

    async def ask(self, name: str, **more: Any) -> image_pb2.GenerateImageResponse:
        """One picture for a tenant."""
        return await Stubs.on(self._channels[name]).image.GenerateImage(picture(**more))

    async def ended(self, name: str) -> None:
        """Until what a tenant asked for is over."""
        stubs, ended = Stubs.on(self._channels[name]), False
        while not ended:
            listed = await stubs.generations.ListGenerations(
                generations_pb2.ListGenerationsRequest()
            )
            ended = [generation.state for generation in listed.generations] == [
                State.STATE_CANCELLED
            ]

    async def refused(self, name: str, **more: Any) -> str:
        """Why a tenant does not get one."""
        error = await rpc_error(self.ask(name, **more))
        return reason_of(error)


@asynccontextmanager
async def callers(
    open_server: OpenServer, upstream: ScriptedUpstream, creates_per_minute: int
) -> AsyncIterator[ConcurrentCallers]:
    """A server with so few creates a minute, and its tenants."""
    settings = {"tenants": (POOR, BUSY, WELL), "creates_per_minute": creates_per_minute}
    async with open_server(upstream.url, **settings) as (_, server):
        channels = {
            name: channel_of(server.grpc_address, name) for name in ("poor", "busy", "well")
        }
        try:
            yield ConcurrentCallers(server, channels)
        finally:
            for channel in channels.values():
                await channel.close()


async def over_budget(callers: ConcurrentCallers) -> None:
    """A tenant without money asks again and again, alone and at once."""
    for _ in range(5):
        assert await callers.refused("poor") == "BUDGET_EXCEEDED"
    reasons = await asyncio.gather(*(callers.refused("poor") for _ in range(20)))
    assert set(reasons) == {"BUDGET_EXCEEDED"}


async def only_validated(callers: ConcurrentCallers) -> None:
    """Dry runs of all kinds."""
    for _ in range(5):
        assert not (await callers.ask("well", validate_only=True)).generation.id
        assert await callers.refused("poor", validate_only=True) == "BUDGET_EXCEEDED"


async def store_is_away(callers: ConcurrentCallers) -> None:
    """The store takes nothing."""
    store = callers.server._deps.store

    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("away")

    accept = store.accept
    store.accept = away  # type: ignore[method-assign,assignment]
    try:
        for _ in range(5):
            assert await callers.refused("well") == "STORE_UNAVAILABLE"
    finally:
        store.accept = accept  # type: ignore[method-assign]


async def bug_in_the_store(callers: ConcurrentCallers) -> None:
    """A bug ends the accepting."""
    store = callers.server._deps.store

    async def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    accept = store.accept
    store.accept = broken  # type: ignore[method-assign,assignment]
    try:
        assert await callers.refused("well") == "INTERNAL"
    finally:
        store.accept = accept  # type: ignore[method-assign]


async def left_before_it_was_sent(callers: ConcurrentCallers) -> None:
    """A caller goes while its commit is on the way; what was accepted is not sent."""
    store = callers.server._deps.store
    accept, reached, go_on = store.accept, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **more: Any) -> Any:
        reached.set()
        await go_on.wait()
        return await accept(*args, **more)

    store.accept = slow  # type: ignore[method-assign]
    try:
        at_once = {"disconnect_grace": Duration()}
        leaving = asyncio.create_task(callers.ask("well", options=at_once))
        await reached.wait()
        leaving.cancel()
        await asyncio.wait([leaving])
        await callers.server._api.rpc_metrics.wait_until_idle()
        go_on.set()
        await callers.ended("well")
    finally:
        store.accept = accept  # type: ignore[method-assign]


REFUSED: list[Callable[[ConcurrentCallers], Awaitable[None]]] = [
    over_budget,
    only_validated,
    store_is_away,
    bug_in_the_store,
    left_before_it_was_sent,
]


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refusal: refusal.__name__)
async def test_a_refused_call_uses_no_turn(
    scripted_upstream: ScriptedUpstream,
    open_server: OpenServer,
    refused: Callable[[ConcurrentCallers], Awaitable[None]],
) -> None:
    """With one turn in three seconds, the next caller's is there still."""
    scripted_upstream.creates = [says(RUNS)]
    scripted_upstream.gets = [says(RUNS)]
    async with callers(open_server, scripted_upstream, 20) as tenants:
        await refused(tenants)
        assert not scripted_upstream.posted
        response = await tenants.ask("well")
        assert response.generation.state != State.STATE_QUEUED
        waits = await tenants.ask("well")
        assert waits.generation.state == State.STATE_QUEUED  # The turn that there was is used.


async def test_a_call_over_the_in_flight_limit_uses_no_turn(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """Likewise; two turns at once."""
    scripted_upstream.creates = [says(RUNS)]
    scripted_upstream.gets = [says(RUNS)]
    async with callers(open_server, scripted_upstream, 40) as tenants:
        assert (await tenants.ask("busy")).generation.state != State.STATE_QUEUED
        for _ in range(5):
            assert await tenants.refused("busy") == "TOO_MANY_IN_FLIGHT"
        assert (await tenants.ask("well")).generation.state != State.STATE_QUEUED


async def test_concurrent_repeats_use_one_turn(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """The same request_id twenty times at once, also for another request."""
    scripted_upstream.creates = [says(RUNS)]
    scripted_upstream.gets = [says(RUNS)]
    async with callers(open_server, scripted_upstream, 40) as tenants:
        name = str(uuid.uuid4())
        asking = [tenants.ask("well", request_id=name, seed=number % 2 + 1) for number in range(20)]
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert 1 <= sum(not isinstance(result, BaseException) for result in results) <= 10
        assert (await tenants.ask("well")).generation.state != State.STATE_QUEUED
        await asyncio.gather(*(tenants.refused("poor") for _ in range(5)))
    assert len(scripted_upstream.posted) <= 2


async def test_a_refused_call_releases_the_circuit_probe(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that failed is tried by the next who can pay, however many others ask for it."""

    def quickly(creates: int, reads: int, streams: int) -> UpstreamLimits:
        return UpstreamLimits(creates, reads, streams, breaker_least=2, breaker_pause=0.05)

    monkeypatch.setattr(upstream, "UpstreamLimits", quickly)
    scripted_upstream.creates = [says({}, 500), says({}, 500), says(RUNS)]
    scripted_upstream.gets = [says(RUNS)]
    none = {
        "options": {
            "fallback": options_pb2.FallbackPolicy(mode=options_pb2.FallbackPolicy.MODE_NONE)
        }
    }
    async with callers(open_server, scripted_upstream, 600) as tenants:
        for _ in range(2):
            await tenants.ask("well", **none)
        await scripted_upstream.received(2)
        while await tenants.refused("poor", **none) == "CIRCUIT_OPEN":
            pass
        for _ in range(5):
            assert await tenants.refused("poor", **none) == "BUDGET_EXCEEDED"
        response = await tenants.ask("well", **none)
        await scripted_upstream.received(3)
        assert response.generation.id
