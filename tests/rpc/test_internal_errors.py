"""A bug of the server in the midst of a call: the call goes on, and nothing is paid twice."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from prometheus_client import generate_latest

from mediagate.v1 import cost_pb2, generation_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_server.generations.execution.prediction_create import Submitter
from mediagate_server.generations.streaming.stream_reader import StreamReader
from mediagate_server.generations.transitions import settlement
from mediagate_server.observability.metrics import REGISTRY
from mediagate_server.runtime.clock import SystemClock
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.upstream.replicate import prediction_decoding
from tests.builders import stream_text_request, text_request

from .generation_waits import QUICK, get_bill
from .stubs import OpenServer

State = generation_pb2.Generation


class InstantRetryClock(SystemClock):
    """No pause takes longer than a moment."""

    async def wait(self, notifier: Notifier, seconds: float, after: int = 0) -> bool:
        return await super().wait(notifier, min(seconds, 0.05), after)


def breaks_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """It does its work; the first time it then falls over."""
    first = iter([True])

    def fall() -> None:
        if next(first, False):
            raise RuntimeError("holds the prompt")

    def broken(*args: Any, **more: Any) -> Any:
        result = function(*args, **more)
        fall()
        return result

    async def broken_later(*args: Any, **more: Any) -> Any:
        result = await function(*args, **more)
        fall()
        return result

    return broken_later if asyncio.iscoroutinefunction(function) else broken


@pytest.mark.parametrize(
    ("owner", "name"),
    [(settlement, "settle_prediction"), (Submitter, "send"), (StreamReader, "_take")],
    ids=["at the end", "after the create was answered", "in the text"],
)
async def test_a_stream_continues_after_an_internal_error(
    sandbox: Sandbox,
    open_server: OpenServer,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
) -> None:
    """Its caller gets the whole text; one prediction was paid; the log has no word of it."""
    monkeypatch.setattr(owner, name, breaks_once(getattr(owner, name)))
    with structlog.testing.capture_logs() as logs:
        async with open_server(sandbox.url, clock=InstantRetryClock(), **QUICK) as (stubs, _):
            call = stubs.text.StreamText(
                stream_text_request(prompt="[[tokens=20 interval_ms=20]] Hello")
            )
            events = [event async for event in call]
    assert events[-1].completed.usage.output_tokens == 20
    text = "".join(event.delta.text for event in events)
    assert events[-1].sequence == len(text.encode())
    billed = await get_bill(sandbox)
    assert [entry["nanos"] for entry in billed["entries"]] == [events[-1].completed.cost.usd_nanos]
    (line,) = [entry for entry in logs if entry["event"] == "generation_crashed"]
    assert line["error"] == "RuntimeError"
    assert line["at"].startswith("test_internal_errors.py:")
    assert "prompt" not in str(logs)
    assert b'mediagate_unexpected_errors_total{work="generation"}' in generate_latest(REGISTRY)


def breaks_over(owner: Any, name: str, word: str) -> Callable[..., Any]:
    """It falls over whatever it is given that has the word in it."""
    function = getattr(owner, name)

    def broken(given: bytes, *more: Any) -> Any:
        if word.encode() in given:
            raise RuntimeError("holds the prompt")
        return function(given, *more)

    return broken


def always(*_: Any, **__: Any) -> Any:
    raise RuntimeError("holds the prompt")


@pytest.mark.parametrize("where", ["decoding", "settling", "shaping", "reading of the cost"])
async def test_repeated_internal_errors_lead_to_quarantine(
    sandbox: Sandbox, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """It ends, paid as billed, or as unknown where not even that can be read; an alarm says so."""
    match where:
        case "decoding":
            broken = breaks_over(prediction_decoding, "parse_object", '"output":["')
            monkeypatch.setattr(prediction_decoding, "parse_object", broken)
        case "settling":
            monkeypatch.setattr(settlement, "settle_prediction", always)
        case "shaping":
            monkeypatch.setattr("mediagate_server.generations.transitions.outcome._text", always)
        case _:
            monkeypatch.setattr(
                "mediagate_server.generations.transitions.prediction_usage.usage_from", always
            )
    with structlog.testing.capture_logs() as logs:
        async with open_server(sandbox.url, clock=InstantRetryClock(), **QUICK) as (stubs, _):
            request = text_request(prompt="[[tokens=5]] Hello")
            generation = (await stubs.text.GenerateText(request)).generation
    assert generation.state == State.STATE_FAILED
    assert "QUARANTINED" in str(generation.error)
    (billed,) = (await get_bill(sandbox))["entries"]
    if where == "reading of the cost":
        assert generation.cost.state == cost_pb2.COST_STATE_UNKNOWN
    else:
        assert generation.cost.usd_nanos == billed["nanos"] > 0
    alarms = [entry for entry in logs if entry["event"] == "generation_quarantined"]
    levels = ["without_output", "unread"] if where == "reading of the cost" else ["without_output"]
    assert [(entry["id"], entry["cause"], entry["reads"]) for entry in alarms] == [
        (generation.id, "errors", level) for level in levels
    ]
    assert "the prompt" not in str(logs)
    assert b'mediagate_generations_quarantined_total{cause="errors"}' in generate_latest(REGISTRY)


async def test_background_jobs_restart_after_an_internal_error(
    sandbox: Sandbox, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cleans up falls over: nobody's generation ends by it, and it is taken up again."""
    again = asyncio.Event()
    calls: list[None] = []

    async def broken(_: object) -> int:
        calls.append(None)
        if len(calls) > 1:
            again.set()
        raise RuntimeError

    monkeypatch.setattr(
        "mediagate_server.generations.recovery.retention.RetentionJob.erase_expired", broken
    )
    async with open_server(sandbox.url, clock=InstantRetryClock()) as (stubs, _):
        await asyncio.wait_for(again.wait(), 30)
        answer = await stubs.text.GenerateText(text_request(prompt="Hello"))
    assert answer.generation.state == State.STATE_SUCCEEDED
