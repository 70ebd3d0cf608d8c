"""An empty store, and a clock that stands until it is told."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mediagate_server.store.sqlite import SqliteStore


class FakeMonotonicClock:
    """Seconds as the test sets them."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An empty store."""
    async with SqliteStore(tmp_path) as opened:
        yield opened


@pytest.fixture
def clock() -> FakeMonotonicClock:
    """A clock of the test's own."""
    return FakeMonotonicClock()
