"""A keeper where there is no storage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from mediagate_server.media.media_store import archive_failure, storage_failed
from mediagate_server.store.records import StoredMedia


class NoKeeper:
    """Keeps nothing: what was made is to be had from upstream as long as upstream has it."""

    async def archive(
        self,
        generation_id: str,
        media: tuple[StoredMedia, ...],
        ended_at: datetime,
        *,
        may_exist: bool = False,
    ) -> tuple[StoredMedia, ...]:
        return media

    async def delete(self, generation_id: str) -> None:
        pass

    @asynccontextmanager
    async def scratch_file(self) -> AsyncIterator[Path]:
        with TemporaryDirectory() as folder:
            yield Path(folder) / "document"

    async def archive_document(self, key: str, path: Path, media_type: str) -> StoredMedia:
        return StoredMedia("", media_type, failure=archive_failure("there is no storage"))

    async def archive_file(
        self, generation_id: str, index: int, path: Path, declared: str, expected: str
    ) -> StoredMedia:
        return StoredMedia("", expected, failure=archive_failure("there is no storage"))

    async def read_document(self, key: str, offset: int, length: int) -> AsyncIterator[bytes]:
        raise storage_failed("there is none")
        yield b""
