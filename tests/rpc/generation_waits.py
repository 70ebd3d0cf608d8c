"""What tests ask of a gate and of the sandbox behind it."""

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
"""Settings of a gate in front of an upstream that lists at once, without patience."""


async def order(sandbox: Sandbox, *faults: dict[str, Any]) -> None:
    """Let these things go wrong from now on."""
    await asyncio.to_thread(SandboxControl(sandbox.url).faults, *faults)


async def bill(sandbox: Sandbox) -> Any:
    """What the sandbox has accepted, and what it comes to."""
    return await asyncio.to_thread(SandboxControl(sandbox.url).bill)


async def ended(stubs: Stubs, generation_id: str) -> generation_pb2.Generation:
    """The generation at its end."""
    answer = await stubs.generations.WaitGeneration(
        generations_pb2.WaitGenerationRequest(id=generation_id)
    )
    return answer.generation


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
