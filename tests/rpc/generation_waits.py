"""Gets and waits: a generation until its end or a condition, a stream, the sandbox's bill."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mediagate.v1 import generation_pb2, generations_pb2, generations_pb2_grpc
from mediagate_sandbox.control_client import SandboxControl
from mediagate_sandbox.server import Sandbox

from .stubs import Stubs

QUICK = {
    "sweep_seconds": 0.1,
    "absent_margin": 1.0,
    "upstream_create_timeout": 1.0,
    "upstream_connect_timeout": 0.5,
    "upstream_read_timeout": 5.0,
}
"""Settings of a server in front of an upstream that lists at once, without patience."""


async def inject_faults(sandbox: Sandbox, *faults: dict[str, Any]) -> None:
    """Adds faults to the sandbox's plan."""
    await asyncio.to_thread(SandboxControl(sandbox.url).faults, *faults)


async def get_bill(sandbox: Sandbox) -> Any:
    """The sandbox's bill: an entry a prediction, and `total_nanos`."""
    return await asyncio.to_thread(SandboxControl(sandbox.url).bill)


async def get_generation(
    stubs: Stubs, generation_id: str, *, full: bool = False
) -> generation_pb2.Generation:
    """GetGeneration."""
    view = generation_pb2.GENERATION_VIEW_FULL if full else generation_pb2.GENERATION_VIEW_BASIC
    request = generations_pb2.GetGenerationRequest(id=generation_id, view=view)
    return (await stubs.generations.GetGeneration(request)).generation


async def wait_for_end(stubs: Stubs, generation_id: str) -> generation_pb2.Generation:
    """WaitGeneration: the generation at its end."""
    request = generations_pb2.WaitGenerationRequest(id=generation_id)
    return (await stubs.generations.WaitGeneration(request)).generation


async def read_stream(call: Any) -> list[Any]:
    """All events of a stream."""
    return [event async for event in call]


async def wait_until(
    generations: generations_pb2_grpc.GenerationServiceAsyncStub,
    generation_id: str,
    condition: Callable[[generation_pb2.Generation], bool],
) -> generation_pb2.Generation:
    """The generation once the condition holds for it, also long after its end."""
    changes: Any = generations.WatchGenerations(
        generations_pb2.WatchGenerationsRequest(), wait_for_ready=True
    )
    await changes.initial_metadata()  # From now on no change is missed.
    request = generations_pb2.GetGenerationRequest(id=generation_id)
    try:
        while True:
            answer = await generations.GetGeneration(request, wait_for_ready=True)
            if condition(answer.generation):
                return answer.generation
            await changes.read()
    finally:
        changes.cancel()
