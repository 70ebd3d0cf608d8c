"""Attacks by models of the attacker's own, that answer whatever JSON and HTTP can say."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import Any

from tests.builders import stream_model_request

from .attack import Attack, Attacker
from .hostile_models import BODIES
from .request_attacks import run

STREAMED = (
    "streamed-tokens",
    "streamed-endless-line",
    "streamed-comments",
    "streamed-other-words",
    "streamed-alone",
    "streamed-long-ids",
)
SCHEMAS = ("references", "wide")


async def _run(attacker: Attacker, *, model: str) -> None:
    def call() -> Awaitable[Any]:
        return attacker.stubs.models.RunModel(run(f"hostile/{model}", prompt="x"), timeout=10)

    await attacker.repeat(call, at_once=2)


async def _stream(attacker: Attacker, *, model: str, at_once: int = 2) -> None:
    request = stream_model_request(f"hostile/{model}")
    request.input.update({"prompt": "x"})

    async def call() -> None:
        async for _ in attacker.stubs.models.StreamModel(request, timeout=10):
            pass

    await attacker.repeat(call, at_once=at_once)


RIGHT = "settled or UNKNOWN, shown or refused by name; read, decoded and shaped in nobody's way"
ATTACKS: tuple[Attack, ...] = (
    *(
        Attack(f"model_{name.replace('-', '_')}", RIGHT, partial(_run, model=name))
        for name in (*BODIES, *SCHEMAS)
        if name not in STREAMED
    ),
    *(
        Attack(f"model_{name.replace('-', '_')}", RIGHT, partial(_stream, model=name))
        for name in STREAMED
    ),
    Attack(
        "model_events_without_end",
        "given up at a quarter of a MiB each, and polled",
        partial(_stream, model="streamed-no-end", at_once=40),
    ),
)
