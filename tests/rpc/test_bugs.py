"""A bug of the gate in the midst of a call: the call goes on, and nothing is paid twice."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from prometheus_client import generate_latest

from mediagate.v1 import generation_pb2, text_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_server.generations import settling
from mediagate_server.generations.bell import Happening
from mediagate_server.generations.clock import SystemClock
from mediagate_server.generations.posting import Posting
from mediagate_server.generations.reading import StreamReader
from mediagate_server.telemetry import REGISTRY

from .asking import QUICK, bill
from .gates import Opener

State = generation_pb2.Generation


class Impatient(SystemClock):
    """No pause takes longer than a moment."""

    async def wait(self, event: Happening, seconds: float) -> bool:
        return await super().wait(event, min(seconds, 0.05))


def breaks_once(place: Callable[..., Any]) -> Callable[..., Any]:
    """It does its work; the first time it then falls over."""
    first = iter([True])

    def fall() -> None:
        if next(first, False):
            raise RuntimeError("holds the prompt")

    def broken(*args: Any, **more: Any) -> Any:
        found = place(*args, **more)
        fall()
        return found

    async def broken_later(*args: Any, **more: Any) -> Any:
        found = await place(*args, **more)
        fall()
        return found

    return broken_later if asyncio.iscoroutinefunction(place) else broken


@pytest.mark.parametrize(
    ("owner", "name"),
    [(settling, "settle"), (Posting, "send"), (StreamReader, "_take")],
    ids=["at the end", "after the create was answered", "in the text"],
)
async def test_a_stream_goes_on_after_a_bug(
    sandbox: Sandbox,
    open_gate: Opener,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
) -> None:
    """Its caller gets the whole text; one prediction was paid; the log has no word of it."""
    monkeypatch.setattr(owner, name, breaks_once(getattr(owner, name)))
    with structlog.testing.capture_logs() as logs:
        async with open_gate(sandbox.url, clock=Impatient(), **QUICK) as (stubs, _):
            call = stubs.text.StreamText(
                text_pb2.StreamTextRequest(prompt="[[tokens=20 interval_ms=20]] Hello")
            )
            events = [event async for event in call]
    assert events[-1].completed.usage.output_tokens == 20
    text = "".join(event.delta.text for event in events)
    assert events[-1].sequence == len(text.encode())
    billed = await bill(sandbox)
    assert [entry["nanos"] for entry in billed["entries"]] == [events[-1].completed.cost.usd_nanos]
    (told,) = [entry for entry in logs if entry["event"] == "generation broke"]
    assert told["error"] == "RuntimeError"
    assert told["at"].startswith("test_bugs.py:")
    assert "prompt" not in str(logs)
    assert b'mediagate_unexpected_errors_total{work="generation"}' in generate_latest(REGISTRY)


async def test_an_unexpected_error_of_the_rest_is_begun_anew(
    sandbox: Sandbox, open_gate: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cleans up falls over: nobody's generation ends by it, and it is taken up again."""
    again = asyncio.Event()
    calls: list[None] = []

    async def broken(_: object) -> int:
        calls.append(None)
        if len(calls) > 1:
            again.set()
        raise RuntimeError

    monkeypatch.setattr("mediagate_server.generations.erasing.Eraser.clean", broken)
    async with open_gate(sandbox.url, clock=Impatient()) as (stubs, _):
        await asyncio.wait_for(again.wait(), 30)
        answer = await stubs.text.GenerateText(text_pb2.GenerateTextRequest(prompt="Hello"))
    assert answer.generation.state == State.STATE_SUCCEEDED
