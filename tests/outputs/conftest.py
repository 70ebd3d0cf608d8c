"""A store, a spool and a server of files."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mediagate_server.outputs.folder import Folder
from mediagate_server.outputs.spool import Spool

from .served import Served


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A store that is empty."""
    return Folder(tmp_path / "kept")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Where files come in."""
    return Spool(tmp_path / "incoming")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server of files that does as it is told, and notes what it was asked."""
    async with Served.open() as opened:
        yield opened
