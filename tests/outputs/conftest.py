"""A store, a spool and a server of files."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from mediagate_server.outputs.bucket import Bucket
from mediagate_server.outputs.folder import Folder
from mediagate_server.outputs.object_storage import ObjectStorage
from mediagate_server.outputs.port import MediaStore
from mediagate_server.outputs.spool import Spool

from .served import Served


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A store that is empty."""
    return Folder(tmp_path / "kept")


@pytest.fixture
def bucket(s3: str) -> Bucket:
    """A bucket that is empty, of which a part is ours."""
    name = f"media-{secrets.token_hex(8)}"
    assert httpx.put(f"{s3}/{name}").status_code == 200
    return Bucket(name, "gate/media", s3, "us-east-1", "an-id", "a-secret")


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> MediaStore:
    """An empty store, of each kind."""
    if request.param == "folder":
        return Folder(tmp_path / "kept")
    return ObjectStorage(request.getfixturevalue("bucket"))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Where files come in."""
    return Spool(tmp_path / "incoming")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server of files that does as it is told, and notes what it was asked."""
    async with Served.open() as opened:
        yield opened
