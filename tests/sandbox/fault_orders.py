"""Giving a sandbox a fault plan, and asking what it did."""

from __future__ import annotations

from typing import Any

from .sandbox_client import SandboxClient

Fault = dict[str, Any]


async def order(caller: SandboxClient, *faults: Fault, **more: Any) -> Any:
    """Put a plan in force; the sandbox's answer."""
    answer = await caller.send("POST", "/sandbox/faults", {"faults": faults, **more})
    assert answer.status == 200, answer.body
    return answer.json


async def fired(caller: SandboxClient) -> list[Any]:
    """What fired so far, in order."""
    fired: list[Any] = (await caller.get("/sandbox/faults")).json["fired"]
    return fired


async def bill(caller: SandboxClient) -> list[Any]:
    """What was accepted, and what it costs."""
    entries: list[Any] = (await caller.get("/sandbox/bill")).json["entries"]
    return entries
