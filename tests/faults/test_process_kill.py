"""`kill -9` at random times, again and again, while all kinds of generations run.

Acknowledged and lost 0; attempts with more than one POST 0; generations with more than one paid
result 0; not terminal after recovery 0; the ledger equal to upstream's bill. Once it is erased,
which a kill interrupts as well, nothing of it is left.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.sandbox_process import UNLIMITED, running_sandbox

from .concurrent_load import Load
from .crashing_process import CrashingProcess
from .final_state_checks import check_erased, needles
from .ledger_book import LedgerBook, check_books
from .retrying_caller import RetryingCaller

BRISK = ("--time-scale", "0.01", "--token-time-scale", "0.1", "--small-files")
CALLERS = 12
AT_THE_START = 0.2
"""How many servers die within their first second, whether they serve yet or not."""
SILENT = {"do": "lose_webhook"}


class CallerProgress:
    """Counts what callers hear, so that a death can come after so much of it."""

    def __init__(self) -> None:
        self._count = 0
        self._grown = asyncio.Event()

    def add_kill(self) -> None:
        """Somebody has heard something."""
        self._count += 1
        self._grown.set()

    async def more(self, count: int) -> None:
        """Until so much more was heard."""
        target = self._count + count
        while self._count < target:
            self._grown.clear()
            await self._grown.wait()


async def die(server: CrashingProcess, heard: CallerProgress, random: Random) -> None:
    """Let it live for a random while, then kill it, and start the next one."""
    if random.random() < AT_THE_START:
        await asyncio.sleep(random.random())  # The moment of the fault itself.
    else:
        await server.until_serving()
        await heard.more(random.randint(1, 60))
    await server.kill()
    server.start()


async def kill_again_and_again(
    folder: Path, seed: int, *, kills: int, least: int, faults: list[Any]
) -> None:
    """So many deaths under load."""
    random = Random(seed)
    print(f"seed {seed}: {kills} kills")
    heard = CallerProgress()
    with running_sandbox(folder, *BRISK, *UNLIMITED) as sandbox:
        sandbox.faults(*faults, seed=seed)
        async with (
            CrashingProcess.of(folder / "gate", sandbox) as server,
            RetryingCaller.of(server.address, heard.add_kill) as faithful,
        ):
            server.start()
            load = Load(faithful, random.getrandbits(64), least, callers=CALLERS)
            async with asyncio.TaskGroup() as together:
                together.create_task(load.run())
                for _ in range(kills):
                    await die(server, heard, random)
                load.enough = True
            await faithful.all_generations()
            await server.stop()
            server.check_log()
            await check_books(server.data, sandbox, load.records)
            before, needles_before = LedgerBook.of(server.data), needles(server.data)
            server.start()
            erasing = asyncio.create_task(faithful.erase(before.generations))
            await heard.more(random.randrange(1, len(before.generations)))
            await server.kill()
            server.start()
            await erasing
            await server.stop()
            check_erased(server.data, needles_before, before, LedgerBook.of(server.data))


@pytest.mark.timeout(120)
async def test_killed_at_random_times(tmp_path: Path, seed: int) -> None:
    """The quick form; no webhook ever comes."""
    await kill_again_and_again(tmp_path, seed, kills=10, least=80, faults=[SILENT])


@pytest.mark.faults_full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("faults", [[], [SILENT]], ids=["webhooks", "none"])
async def test_killed_two_hundred_times(tmp_path: Path, seed: int, faults: list[Any]) -> None:
    """At least 500 generations, with webhooks and without."""
    await kill_again_and_again(tmp_path, seed, kills=200, least=500, faults=faults)
