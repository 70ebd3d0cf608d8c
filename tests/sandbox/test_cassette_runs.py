"""Runs of all kinds, recorded from one sandbox and replayed when it is gone: not a byte differs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mediagate_sandbox.cassettes.server import recorder, replayer
from mediagate_sandbox.server import Sandbox
from tests.sandbox_process import INSTANT

from .cassette_traffic import TOKEN, run_traffic
from .webhook_receiver import receiving


@pytest.mark.parametrize("count", [34, pytest.param(204, marks=pytest.mark.faults_full)])
async def test_recorded_runs_are_replayed_byte_for_byte(tmp_path: Path, count: int) -> None:
    """Outputs, events, webhooks, errors and reads; the upstream has stopped before the replay."""
    cassette = tmp_path / "runs.jsonl"
    begun = time.monotonic()
    async with receiving() as receiver, Sandbox(INSTANT) as sandbox:
        async with recorder(cassette, INSTANT, upstream=sandbox.url) as recording:
            recorded = await run_traffic(recording.url, receiver, count)
        creates = len(sandbox.request_log.creates)
        requests = sum(sandbox.request_log.requests.values())
    between = time.monotonic()
    async with receiving() as receiver, replayer(cassette, INSTANT) as replay:
        replayed = await run_traffic(replay.url, receiver, count)
        state = replay.state()
    seconds = between - begun, time.monotonic() - between
    print(f"{creates} predictions, {requests} upstream requests, {seconds=}, {state=}")
    for (kind, before), (_, after) in zip(recorded, replayed, strict=True):
        assert after == before, kind
    assert state["mismatches"] == []
    assert state["creates_left"] == state["incomplete"] == 0
    assert TOKEN.encode() not in cassette.read_bytes()
    assert sum(sandbox.request_log.requests.values()) == requests
