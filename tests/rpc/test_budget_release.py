"""However a generation ends, budgets hold nothing for it any more, and have spent its charges."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import grpc
import pytest

from mediagate.v1 import generation_pb2, generations_pb2, options_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_server.config import Budget
from tests.builders import image_request, stream_text_request, text_request, video_request

from .generation_waits import inject_faults, wait_for_end
from .stubs import OpenServer, Stubs
from .tenant_keys import channel_of, tenant
from .test_budgets import BOSS, stands

State = generation_pb2.Generation
Way = Callable[[Stubs, Sandbox], Awaitable[str]]
NO_FALLBACK = options_pb2.FallbackPolicy(mode=options_pb2.FallbackPolicy.MODE_NONE)


def options(model: str = "", **more: Any) -> options_pb2.GenerationOptions:
    """Of a call that no other model takes over."""
    return options_pb2.GenerationOptions(model=model, fallback=NO_FALLBACK, **more)


async def blocked(stubs: Stubs, _: Sandbox) -> str:
    """The check of its words says no: what it was to make was never sent."""
    response = await stubs.image.GenerateImage(
        image_request(
            prompt="[[unsafe=S1]] x", count=3, options=options("flux-pro", screen_prompt=True)
        )
    )
    assert response.generation.safety.categories
    return response.generation.id


async def of_several_some_fail(stubs: Stubs, sandbox: Sandbox) -> str:
    """Every second run fails, by a model that is paid by the second."""
    await inject_faults(sandbox, {"do": "fail", "on": "create", "every": 2})
    response = await stubs.image.GenerateImage(
        image_request(prompt="x", count=8, options=options("sdxl"))
    )
    return response.generation.id


async def cancelled(stubs: Stubs, _: Sandbox) -> str:
    """While its runs go on."""
    begun = await stubs.video.GenerateVideo(
        video_request(prompt="[[hang]] x", options=options("minimax-video"))
    )
    return await cancel(stubs, begun.generation.id)


async def cancelled_in_the_queue(stubs: Stubs, _: Sandbox) -> str:
    """Before it was sent: other calls have used up what may be sent now."""
    for _try in range(40):
        begun = await stubs.video.GenerateVideo(
            video_request(prompt="x", options=options("minimax-video"))
        )
        if begun.generation.state == State.STATE_QUEUED:
            return await cancel(stubs, begun.generation.id)
    raise AssertionError("nothing had to wait")


async def cancel(stubs: Stubs, name: str) -> str:
    """Ask for the end."""
    await stubs.generations.CancelGeneration(generations_pb2.CancelGenerationRequest(id=name))
    return name


async def refused(stubs: Stubs, sandbox: Sandbox) -> str:
    """Upstream takes none of its attempts: its caller is told, and it is there all the same."""
    await inject_faults(sandbox, {"do": "error", "on": "create", "status": 422, "at": "request"})
    with pytest.raises(grpc.aio.AioRpcError, match="refused by the model"):
        await stubs.text.GenerateText(text_request(prompt="x", options=options("llama-70b")))
    request = generations_pb2.ListGenerationsRequest()
    (generation,) = (await stubs.generations.ListGenerations(request)).generations
    return generation.id


async def aborted(stubs: Stubs, sandbox: Sandbox) -> str:
    """It ended before it had started."""
    await inject_faults(sandbox, {"do": "abort", "on": "create"})
    response = await stubs.text.GenerateText(text_request(prompt="x", options=options("llama-70b")))
    return response.generation.id


async def left(stubs: Stubs, _: Sandbox) -> str:
    """The only caller goes away in the midst of a stream."""
    request = stream_text_request(prompt="[[hang_after=3]] x", options=options("llama-70b"))
    request.options.disconnect_grace.FromSeconds(0)
    call: Any = stubs.text.StreamText(request)
    events = aiter(call)
    name = str((await anext(events)).started.generation_id)
    while not (await anext(events)).delta.text:
        pass
    call.cancel()
    return name


async def fallen_back(stubs: Stubs, _: Sandbox) -> str:
    """One model after the other fails, and each is paid for what it did."""
    listed = options_pb2.FallbackPolicy(
        mode=options_pb2.FallbackPolicy.MODE_LIST, models=["playground-v2.5", "flux-dev"]
    )
    response = await stubs.image.GenerateImage(
        image_request(prompt="[[fail]] x", model="sdxl", fallback=listed)
    )
    assert len(response.generation.attempts) == 3
    return response.generation.id


@pytest.mark.parametrize(
    "way",
    [
        blocked,
        of_several_some_fail,
        cancelled,
        cancelled_in_the_queue,
        refused,
        aborted,
        left,
        fallen_back,
    ],
)
async def test_every_end_releases_the_budget(
    way: Way, sandbox: Sandbox, open_server: OpenServer
) -> None:
    """After a restart, too."""
    bound = Budget(name="b", period="total", limit_usd=Decimal(1_000))
    settings = {
        "tenants": (tenant("acme", budgets=(bound,)), BOSS),
        "assume_unknown_usd": Decimal("0.5"),
        "creates_per_minute": 200,
    }
    async with (
        open_server(sandbox.url, **settings) as (_, server),
        channel_of(server.grpc_address, "acme") as channel,
    ):
        stubs = Stubs.on(channel)
        name = await way(stubs, sandbox)
        await stubs.generations.WaitGeneration(generations_pb2.WaitGenerationRequest(id=name))
        listed = await stubs.generations.ListGenerations(
            generations_pb2.ListGenerationsRequest(page_size=1000)
        )
        costs = []
        for each in listed.generations:
            generation = await wait_for_end(stubs, each.id)
            assert generation.state >= State.STATE_SUCCEEDED
            costs += [attempt.cost for attempt in generation.attempts]
        assert all(cost.HasField("usd_nanos") for cost in costs)
        use = await stands(server)
        assert use.spent_usd_nanos == sum(cost.usd_nanos for cost in costs)
        assert use.reserved_usd_nanos == 0
    async with open_server(sandbox.url, **settings) as (_, server):
        assert await stands(server) == use
