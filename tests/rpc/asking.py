"""What tests ask of a gate and of the sandbox behind it."""

import asyncio
from typing import Any

from mediagate.v1 import generation_pb2, generations_pb2
from mediagate_sandbox.control import SandboxControl
from mediagate_sandbox.server import Sandbox

from .gates import Stubs

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
