"""A store, a spool and a server of files."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from mediagate_server.media.file_store import FileSystemMediaStore
from mediagate_server.media.media_store import MediaStore
from mediagate_server.media.object_storage import BucketSettings, ObjectStorageMediaStore
from mediagate_server.media.temp_files import TempFiles

from .file_server import FileServer


@pytest.fixture
def folder(tmp_path: Path) -> FileSystemMediaStore:
    """A store that is empty."""
    return FileSystemMediaStore(tmp_path / "kept")


@pytest.fixture
def bucket(s3: str) -> BucketSettings:
    """A bucket that is empty, of which a part is ours."""
    name = f"media-{secrets.token_hex(8)}"
    assert httpx.put(f"{s3}/{name}").status_code == 200
    return BucketSettings(name, "gate/media", s3, "us-east-1", "an-id", "a-secret")


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> MediaStore:
    """An empty store, of each kind."""
    if request.param == "folder":
        return FileSystemMediaStore(tmp_path / "kept")
    return ObjectStorageMediaStore(request.getfixturevalue("bucket"))


@pytest.fixture
def spool(tmp_path: Path) -> TempFiles:
    """Where files come in."""
    return TempFiles(tmp_path / "incoming")


@pytest.fixture
async def file_server() -> AsyncIterator[FileServer]:
    """A server of files that does as it is told, and notes what it was asked."""
    async with FileServer.open() as opened:
        yield opened
