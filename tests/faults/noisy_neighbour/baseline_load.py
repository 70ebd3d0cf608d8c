"""What attacks are compared with: calls that harm nobody, and take as much of the processor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from mediagate.v1 import generations_pb2, models_pb2

from .attack import Attacker, attack
from .request_attacks import text

_PAUSE = 0.02


@attack("served, like anybody's")
async def harmless_load(attacker: Attacker) -> None:
    stubs, target = attacker.stubs, attacker.target
    plan = text()
    plan.validate_only = True
    calls: tuple[Callable[[], Awaitable[Any]], ...] = (
        lambda: stubs.generations.ListGenerations(
            generations_pb2.ListGenerationsRequest(page_size=5)
        ),
        lambda: stubs.models.GetModel(models_pb2.GetModelRequest(model="llama-70b")),
        lambda: stubs.text.GenerateText(plan),
    )
    began, before = time.monotonic(), target.processor_seconds()

    async def send_one() -> Any:
        while attacker.seconds_left:
            passed = time.monotonic() - began
            if target.processor_seconds() - before < target.processor_share * passed:
                break
            await asyncio.sleep(_PAUSE)
        return await attacker.random.choice(calls)()

    await attacker.repeat(send_one, at_once=8)
