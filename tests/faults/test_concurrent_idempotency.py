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


def changed(sample: SampleRequest, change: dict[str, Any]) -> SampleRequest:
    """The same request_id for something else."""
    request = type(sample.request)()
    request.CopyFrom(sample.request)
    request.MergeFrom(type(request)(**change))
    return SampleRequest(sample.rpc, request)


async def code_of(faithful: RetryingCaller, sample: SampleRequest) -> grpc.StatusCode:
    """What a call ends with."""
    try:
        await faithful.follow(CallerRecord(sample))
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("kind", ["stream", "text", "picture", "film"])
async def test_fifty_concurrent_repeats_make_one_generation(
    tmp_path: Path, seed: int, kind: str
) -> None:
    """Also after the server was killed in the midst of them, and after the end."""
    random = Random(seed)
    sample = named(
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
            CrashingProcess.of(tmp_path / "gate", sandbox) as server,
            AsyncExitStack() as stack,
        ):
            callers = [
                await stack.enter_async_context(RetryingCaller.of(server.address))
                for _ in range(CHANNELS)
            ]
            server.start()
            await server.until_serving()
            calls = [
                asyncio.create_task(callers[number % CHANNELS].call(sample))
                for number in range(CALLS)
            ]
            await asyncio.to_thread(until_created, sandbox)
            await server.kill()
            server.start()
            records = list(await asyncio.gather(*calls))
            records.append(await callers[0].call(sample))
            refused = [await code_of(callers[0], changed(sample, change)) for change in CHANGES]
            await server.stop()
            await check_books(server.data, sandbox, records)
        assert len({record.id for record in records}) == 1
        assert {record.text for record in records} == {records[0].text}
        assert set(refused) == {grpc.StatusCode.ALREADY_EXISTS}
        assert sandbox.state()["creates"]["total"] == 1


def until_created(sandbox: Any) -> None:
    """Until upstream has taken the create."""
    while not sandbox.bill()["entries"]:
        pass
