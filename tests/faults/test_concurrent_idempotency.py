"""Fifty calls at once under one request_id: one generation, one POST; another body is refused."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any, Final

import grpc
import pytest

from tests.sandbox_process import UNLIMITED, running_sandbox

from .crashing_process import CrashingProcess
from .ledger_book import check_books
from .retrying_caller import CallerRecord, RetryingCaller
from .sample_requests import SampleRequest, film, named, picture, text

CALLS: Final = 50
CHANNELS: Final = 5
CHANGES: Final[list[dict[str, Any]]] = [
    {"prompt": "Something else"},
    {"seed": 12},
    {"options": {"model": "another/model"}},
    {"options": {"labels": {"who": "else"}}},
    {"options": {"max_cost_usd_nanos": 10**12}},
]


def changed(asked: SampleRequest, change: dict[str, Any]) -> SampleRequest:
    """The same request_id for something else."""
    request = type(asked.request)()
    request.CopyFrom(asked.request)
    request.MergeFrom(type(request)(**change))
    return SampleRequest(asked.rpc, request)


async def code_of(faithful: RetryingCaller, asked: SampleRequest) -> grpc.StatusCode:
    """What a call ends with."""
    try:
        await faithful.follow(CallerRecord(asked))
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("kind", ["stream", "text", "picture", "film"])
async def test_fifty_at_once_are_one(tmp_path: Path, seed: int, kind: str) -> None:
    """Also after the gate was killed in the midst of them, and after the end."""
    random = Random(seed)
    asked = named(
        random,
        {
            "stream": text("[[tokens=60 interval_ms=10]] Hello", streamed=True),
            "text": text("[[tokens=60 interval_ms=10]] Hello", streamed=False),
            "picture": picture("[[run_ms=600]] A cat"),
            "film": film("[[run_ms=600]] A dog"),
        }[kind],
    )
    with running_sandbox(tmp_path, *UNLIMITED, "--small-files") as sandbox:
        async with (
            CrashingProcess.of(tmp_path / "gate", sandbox) as gate,
            AsyncExitStack() as stack,
        ):
            callers = [
                await stack.enter_async_context(RetryingCaller.of(gate.address))
                for _ in range(CHANNELS)
            ]
            gate.start()
            await gate.until_serving()
            calls = [
                asyncio.create_task(callers[number % CHANNELS].call(asked))
                for number in range(CALLS)
            ]
            await asyncio.to_thread(until_created, sandbox)
            await gate.kill()
            gate.start()
            told = list(await asyncio.gather(*calls))
            told.append(await callers[0].call(asked))
            refused = [await code_of(callers[0], changed(asked, change)) for change in CHANGES]
            await gate.stop()
            await check_books(gate.data, sandbox, told)
        assert len({one.id for one in told}) == 1
        assert {one.text for one in told} == {told[0].text}
        assert set(refused) == {grpc.StatusCode.ALREADY_EXISTS}
        assert sandbox.state()["creates"]["total"] == 1


def until_created(sandbox: Any) -> None:
    """Until upstream has taken the create."""
    while not sandbox.bill()["entries"]:
        pass
