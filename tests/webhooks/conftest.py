"""An empty store, a receiver, and time that stands."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mediagate_server.store.sqlite import SqliteStore

from .manual_clock_dispatcher import ManualDispatcherClock
from .webhook_receiver import Receiver, receiving


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An empty store."""
    async with SqliteStore(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Somebody who is told."""
    async with receiving() as opened:
        yield opened


@pytest.fixture
def clock() -> ManualDispatcherClock:
    """A clock of the test's own."""
    return ManualDispatcherClock()
