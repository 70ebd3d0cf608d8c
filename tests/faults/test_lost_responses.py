"""An upstream whose answers get lost, and webhooks that go wrong, under a mixed load.

POSTs per attempt at most 1; what was taken is adopted, all of it; everything ends, settled once.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from tests.sandbox_process import UNLIMITED, running_sandbox

from .concurrent_load import Load
from .crashing_process import CrashingProcess
from .ledger_book import LedgerBook, check_books
from .retrying_caller import RetryingCaller

CALLERS: Final = 40
SHARE: Final = 0.05
"""How many creates meet each fault; together fewer than would open the breaker."""

ON_CREATE: Final[list[dict[str, Any]]] = [
    {"do": "lose_answer"},
    {"do": "reset_body", "after_bytes": 20},
    {"do": "error", "status": 500, "at": "answer"},
    {"do": "error", "status": 502, "at": "request"},
    {"do": "hang", "at": "answer"},
    {"do": "throttle", "retry_after": 1},
]
UNCLEAR: Final = [{**each, "on": "create", "probability": SHARE} for each in ON_CREATE]
WEBHOOKS: Final[list[dict[str, Any]]] = [
    {"do": "lose_webhook", "probability": 0.3},
    {"do": "repeat_webhook", "copies": 5, "probability": 0.2},
    {"do": "reorder_webhooks", "probability": 0.2},
    {"do": "delay_webhook", "ms": 700, "probability": 0.2},
    {"do": "forge_webhook", "status": "succeeded", "probability": 0.2},
]
BRISK: Final = ("--time-scale", "0.01", "--token-time-scale", "0.05", "--small-files")
NO_WEBHOOKS: Final = {"MEDIAGATE_PUBLIC_URL": ""}
WAYS: Final[dict[str, tuple[list[dict[str, Any]], dict[str, str]]]] = {
    "answers": (UNCLEAR, NO_WEBHOOKS),
    "answers and webhooks": (UNCLEAR + WEBHOOKS, {}),
    "webhooks": (WEBHOOKS, {}),
    "no webhooks": ([], NO_WEBHOOKS),
}


async def survive(folder: Path, seed: int, count: int, way: str) -> None:
    """So many generations in spite of all that, and the books after them."""
    faults, settings = WAYS[way]
    print(f"seed {seed}: {way}")
    with running_sandbox(folder, *BRISK, *UNLIMITED) as sandbox:
        sandbox.faults(*faults, seed=seed)
        async with (
            CrashingProcess.of(folder / "gate", sandbox, **settings) as server,
            RetryingCaller.of(server.address) as faithful,
        ):
            server.start()
            load = Load(faithful, seed, count, callers=CALLERS)
            load.enough = True
            await load.run()
            await faithful.all_generations()
            await server.stop()
            server.check_log()
            await check_books(server.data, sandbox, load.records)
            fired = {each["do"] for each in await asyncio.to_thread(sandbox.fired)}
            assert fired == {fault["do"] for fault in faults}
            requests = (await asyncio.to_thread(sandbox.state))["requests"]
            posts = sum(
                number
                for what, number in requests.items()
                if what.startswith("POST /v1/") and what.endswith("/predictions")
            )
            attempts = len(LedgerBook.of(server.data).attempts)
            print(f"{posts} POSTs of {attempts} attempts")
            assert posts <= attempts


@pytest.mark.timeout(180)
async def test_lost_responses_and_webhooks(tmp_path: Path, seed: int) -> None:
    """The quick form."""
    await survive(tmp_path, seed, 120, "answers and webhooks")


@pytest.mark.faults_full
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("way", WAYS)
async def test_lost_responses_of_a_thousand_generations(
    tmp_path: Path, seed: int, way: str
) -> None:
    """Each way by itself."""
    await survive(tmp_path, seed, 1_000, way)
