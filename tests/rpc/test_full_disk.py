"""The disk takes nothing for a while: what is paid is not lost for it, and nobody is to blame."""

import errno
import resource
import subprocess
from datetime import timedelta
from typing import Any

import pytest

from mediagate.v1 import generation_pb2
from mediagate_server.generations.execution import large_output_reader
from mediagate_server.generations.transitions import settlement
from mediagate_server.workers import worker_pool
from tests.builders import text_request

from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import OpenServer
from .test_internal_errors import InstantRetryClock

State = generation_pb2.Generation
METRICS = {"input_token_count": 12, "output_token_count": 34}
FULL_TEXT = "word \r\n" * 200_000
REQUEST = text_request(prompt="x", model="llama-70b")
MORE_THAN_QUARANTINE = 10


@pytest.fixture(autouse=True)
def _answers(scripted_upstream: ScriptedUpstream) -> None:
    ended = {"id": ID, "status": "succeeded", "output": FULL_TEXT, "metrics": METRICS}
    scripted_upstream.creates = [says({"id": ID, "status": "processing"}, 201)]
    scripted_upstream.gets = [says(ended)]


def fill_disk_of_workers(monkeypatch: pytest.MonkeyPatch, count: int) -> list[None]:
    """The next so many workers write no file; each job has one of its own."""
    monkeypatch.setattr(worker_pool, "_MAX_IDLE_BYTES", 0)
    start, left = subprocess.Popen, [None] * count

    def starts(*arguments: Any, **options: Any) -> Any:
        process: Any = start(*arguments, **options)
        if left:
            left.pop()
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
        return process

    monkeypatch.setattr(subprocess, "Popen", starts)
    return left


async def test_a_worker_recovers_from_a_full_disk(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = fill_disk_of_workers(monkeypatch, MORE_THAN_QUARANTINE)
    async with open_server(scripted_upstream.url, clock=InstantRetryClock()) as (stubs, _):
        generation = (await stubs.text.GenerateText(REQUEST)).generation
    assert generation.state == State.STATE_SUCCEEDED, generation.error
    assert generation.cost.usd_nanos > 0
    assert generation.text.document.size_bytes == len(FULL_TEXT)
    assert not left


async def test_a_worker_cannot_write_until_the_output_expired(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_output_reader, "UPSTREAM_LINK_LIFETIME", timedelta(0))
    fill_disk_of_workers(monkeypatch, 1_000)
    async with open_server(scripted_upstream.url, clock=InstantRetryClock()) as (stubs, _):
        generation = (await stubs.text.GenerateText(REQUEST)).generation
    assert generation.state == State.STATE_FAILED
    assert generation.cost.usd_nanos > 0
    assert "OUTPUT_STORE_FAILED" in str(generation.error)


@pytest.mark.parametrize(
    "failing_call", [(large_output_reader, "_head"), (settlement, "settle_prediction")]
)
async def test_the_server_recovers_from_a_full_disk(
    scripted_upstream: ScriptedUpstream,
    open_server: OpenServer,
    monkeypatch: pytest.MonkeyPatch,
    failing_call: tuple[Any, str],
) -> None:
    """Wherever it meets that: tried again, and never put into quarantine."""
    real, left = getattr(*failing_call), [None] * MORE_THAN_QUARANTINE

    def act(*arguments: Any, **options: Any) -> Any:
        if left:
            left.pop()
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **options)

    monkeypatch.setattr(*failing_call, act)
    async with open_server(scripted_upstream.url, clock=InstantRetryClock()) as (stubs, _):
        generation = (await stubs.text.GenerateText(REQUEST)).generation
    assert generation.state == State.STATE_SUCCEEDED, generation.error
    assert generation.cost.usd_nanos > 0
    assert not left
