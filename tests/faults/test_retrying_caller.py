"""A faithful caller gets every answer over a server's death: none of its reads ends cut."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.sandbox_process import UNLIMITED, running_sandbox

from .crashing_process import CrashingProcess
from .retrying_caller import RetryingCaller
from .sample_requests import named, text

Read = Callable[[RetryingCaller, str], Awaitable[Any]]

READS: dict[str, Read] = {
    "all_generations": lambda faithful, _: faithful.all_generations(),
    "ended": lambda faithful, name: faithful.ended(name),
    "until": lambda faithful, name: faithful.until(
        name, lambda generation: bool(generation.attempts)
    ),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("read", READS)
async def test_a_read_interrupted_by_a_crash_is_retried(
    tmp_path: Path, seed: int, read: str
) -> None:
    """It is on the connection of a server that answers nothing any more, and then dies."""
    with running_sandbox(tmp_path, "--time-scale", "0.01", *UNLIMITED) as sandbox:
        async with (
            CrashingProcess.of(tmp_path / "gate", sandbox) as server,
            RetryingCaller.of(server.address) as faithful,
        ):
            server.start()
            record = await faithful.call(named(Random(seed), text("Hello", streamed=False)))
            server.pause()
            reading = asyncio.ensure_future(READS[read](faithful, record.id))
            await asyncio.sleep(0)  # It has been sent.
            await server.kill()
            server.start()
            await reading
            await server.stop()
            server.check_log()
