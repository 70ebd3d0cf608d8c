"""File system media store: a file for the content, and one beside it for the metadata.

The metadata is written last and each file appears whole, by a rename: a file without metadata does
not exist. Metadata is also deleted last: as long as there is any, keys are listed and what is left
can be deleted.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import orjson
import structlog

from mediagate_server.media.media_store import CHUNK_BYTES, StoredFile, storage_failed, validate_key
from mediagate_server.runtime.private_files import make_private_folder, write_private_file

_METADATA_SUFFIX: Final = ".notes"
_PARTIAL_SUFFIX: Final = ".half"

_log = structlog.get_logger()

T = TypeVar("T")


class FileSystemMediaStore:
    """A MediaStore in a local folder. One process at a time."""

    def __init__(self, folder: Path) -> None:
        """Deletes files that a crash left incomplete. OSError where the folder cannot be used."""
        self._folder = folder
        make_private_folder(folder)
        _remove_orphans(folder)

    async def put(self, key: str, file: Path, metadata: Mapping[str, str]) -> None:
        """Move the file into the folder, durably. It must be on the same disk, and synced."""
        target = self._path(key)

        def work() -> None:
            changed = _make_folders(target.parent, self._folder)
            _metadata_path(target).unlink(missing_ok=True)
            file.replace(target)
            partial_file = target.with_name(target.name + _PARTIAL_SUFFIX)
            try:
                write_private_file(partial_file, orjson.dumps(dict(metadata)))
                partial_file.replace(_metadata_path(target))
            except OSError:
                partial_file.unlink(missing_ok=True)
                target.unlink()
                raise
            for folder in changed:
                _sync_folder(folder)

        await self._in_thread(work)

    async def find(self, key: str) -> StoredFile | None:
        """Size and metadata of a stored file; None where there is none."""
        path = self._path(key)

        def work() -> StoredFile | None:
            try:
                metadata = orjson.loads(_metadata_path(path).read_bytes())
                return StoredFile(path.stat().st_size, metadata)
            except FileNotFoundError:
                return None

        return await self._in_thread(work)

    async def read(
        self, key: str, offset: int, length: int, piece_bytes: int = CHUNK_BYTES
    ) -> AsyncIterator[bytes]:
        """Read a range in chunks."""
        path = self._path(key)
        # Opened for each chunk: a reader that is abandoned leaves no open file.
        while length > 0:
            piece = await self._in_thread(
                partial(_read_piece, path, offset, min(length, piece_bytes))
            )
            if not piece:
                return
            offset, length = offset + len(piece), length - len(piece)
            handed_out = [piece]
            del piece  # A slow reader may hold it for long: do not keep a second reference.
            yield handed_out.pop()

    async def delete(self, key: str) -> None:
        """Delete a file, or the files of keys below."""
        path = self._path(key)

        def work() -> None:
            if path.is_dir():
                _remove_folder(path)
            else:
                path.unlink(missing_ok=True)
                _metadata_path(path).unlink(missing_ok=True)
            if path.parent.is_dir():
                _sync_folder(path.parent)

        await self._in_thread(work)

    async def keys(self, below: str) -> tuple[str, ...]:
        """Keys directly below a key."""
        path = self._path(below)

        def work() -> tuple[str, ...]:
            if not path.is_dir():
                return ()
            names = (file.name for file in path.iterdir() if file.suffix == _METADATA_SUFFIX)
            return tuple(f"{below}/{name.removesuffix(_METADATA_SUFFIX)}" for name in sorted(names))

        return await self._in_thread(work)

    async def link(self, key: str, seconds: float) -> str:
        """Always empty: a local file is read through the server."""
        return ""

    def _path(self, key: str) -> Path:
        """Path of a key's content. A key never leads out of the folder."""
        return self._folder.joinpath(*validate_key(key).split("/"))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except OSError:
            raise storage_failed("the disk does not do it") from None


def _read_piece(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(size) or b""


def _metadata_path(path: Path) -> Path:
    return path.with_name(path.name + _METADATA_SUFFIX)


def _make_folders(folder: Path, top: Path) -> list[Path]:
    """Create the folder; returns the folders with a new entry, to be synced."""
    changed = [folder]
    while changed[-1] != top and not changed[-1].exists():
        changed.append(changed[-1].parent)
    make_private_folder(folder)
    return changed


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_folder(folder: Path) -> None:
    """Delete all of a folder that can be. Raises OSError where something is left."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise OSError("something is left of the folder")


def _remove_orphans(top: Path) -> None:
    """Delete content without metadata and metadata without content; errors are only logged."""
    for folder, _, names in os.walk(top):
        present = set(names)
        for name in names:
            other = (
                name.removesuffix(_METADATA_SUFFIX)
                if name.endswith(_METADATA_SUFFIX)
                else f"{name}{_METADATA_SUFFIX}"
            )
            if other not in present:
                orphan = Path(folder) / name
                try:
                    orphan.unlink()
                except OSError as error:
                    relative = str(orphan.relative_to(top))
                    _log.warning("orphaned_media_file", file=relative, error=type(error).__name__)
