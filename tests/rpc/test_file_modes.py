"""Only the server's own user may read what it keeps, whatever the umask is."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mediagate.v1 import generations_pb2
from mediagate_sandbox.server import Sandbox
from tests.builders import image_request

from .media_transfers import upload
from .stubs import OpenServer


@pytest.fixture
def _open_umask() -> Iterator[None]:
    """Nothing is taken from what is made."""
    before = os.umask(0)
    yield
    os.umask(before)


def everything(folder: Path) -> list[Path]:
    """The folder and all that is in it."""
    return [folder, *folder.rglob("*")]


def open_to_others(folder: Path) -> dict[str, str]:
    """What others may do anything with, and how."""
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in everything(folder)}
    return {str(path): oct(mode) for path, mode in modes.items() if mode & 0o077}


@pytest.mark.usefixtures("_open_umask")
async def test_stored_files_are_private_to_their_owner(
    sandbox: Sandbox, open_server: OpenServer, tmp_path: Path
) -> None:
    """The database, its log, keys, locks, uploads and outputs, while it runs and afterwards."""
    data = tmp_path / "data"
    async with open_server(sandbox.url) as (stubs, _):
        response = await stubs.image.GenerateImage(image_request(prompt="a"))
        await upload(stubs, b"\x89PNG\r\n\x1a\n" + bytes(100))
        wait = generations_pb2.WaitGenerationRequest(id=response.generation.id)
        await stubs.generations.WaitGeneration(wait)
        names = {path.name for path in everything(data)}
        assert {"mediagate.sqlite3", "mediagate.sqlite3-wal", "mediagate.sqlite3-shm"} <= names
        assert {"sealing.key", "lock", "media"} <= names
        assert any(name.startswith("upl_") for name in names)
        assert any(name.endswith(".notes") for name in names)
        assert open_to_others(data) == {}
    assert open_to_others(data) == {}


@pytest.mark.usefixtures("_open_umask")
async def test_permissions_of_older_files_are_tightened(
    sandbox: Sandbox, open_server: OpenServer, tmp_path: Path
) -> None:
    """Before anything else is done; what a link leads to is let alone."""
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    async with open_server(sandbox.url) as (stubs, _):
        await stubs.image.GenerateImage(image_request(prompt="a"))
        await upload(stubs, b"\x89PNG\r\n\x1a\n" + bytes(100))
    for path in everything(data):
        path.chmod(0o777 if path.is_dir() else 0o644)
    (data / "mediagate.sqlite3-wal").touch(0o666)
    elsewhere.touch(0o644)
    (data / "media" / "link.notes").symlink_to(elsewhere)
    async with open_server(sandbox.url) as (stubs, _):
        (data / "media" / "link.notes").unlink(missing_ok=True)
        assert open_to_others(data) == {}
        await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o644
