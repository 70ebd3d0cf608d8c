"""The folder and the spool: whole or not at all."""

import hashlib
import os
from pathlib import Path
from random import Random

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.media.file_store import FileSystemMediaStore
from mediagate_server.media.media_store import StorageFailed
from mediagate_server.media.temp_files import FileTooLarge, TempFiles
from mediagate_server.media_type import HEAD_BYTES

from .store_io import put


def files_in(folder: Path) -> set[str]:
    """All files below a folder."""
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def refuse_deletion(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """From now on the disk does not part with files of these names."""
    unlink = os.unlink

    def refusing(path: str | Path, *, dir_fd: int | None = None) -> None:
        if Path(path).name in names:
            os.stat(path, dir_fd=dir_fd)  # FileNotFoundError where there is none.
            raise PermissionError(1, "Operation not permitted")
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refusing)


async def test_deletion_removes_all_files(
    folder: FileSystemMediaStore, spool: TempFiles, tmp_path: Path
) -> None:
    """Not a byte."""
    for key in ("outputs/gen_1/0", "outputs/gen_1/1", "outputs/gen_2/0"):
        await put(folder, spool, key, b"x")
    await folder.delete("outputs/gen_1")
    await folder.delete("outputs/gen_2/0")
    assert files_in(tmp_path) == set()


async def test_files_left_by_a_crash_are_removed(
    folder: FileSystemMediaStore, spool: TempFiles, tmp_path: Path
) -> None:
    """Half a file in the spool, one without notes, notes half written: gone at the next start."""
    await put(folder, spool, "outputs/gen_1/0", b"whole")
    stored = tmp_path / "kept" / "outputs" / "gen_1"
    (stored / "1").write_bytes(b"no notes")
    (stored / "2.half").write_bytes(b'{"wo')
    (tmp_path / "incoming" / "part").write_bytes(b"half")
    FileSystemMediaStore(tmp_path / "kept")
    TempFiles(tmp_path / "incoming")
    assert files_in(tmp_path) == {"kept/outputs/gen_1/0", "kept/outputs/gen_1/0.notes"}


async def test_metadata_without_content_is_removed(
    folder: FileSystemMediaStore, spool: TempFiles, tmp_path: Path
) -> None:
    """As after a crash in the midst of deleting; until then they are listed, and not found."""
    await put(folder, spool, "uploads/a", b"x")
    await put(folder, spool, "uploads/b", b"x")
    (tmp_path / "kept" / "uploads" / "a").unlink()
    assert await folder.keys("uploads") == ("uploads/a", "uploads/b")
    assert await folder.find("uploads/a") is None
    FileSystemMediaStore(tmp_path / "kept")
    assert files_in(tmp_path) == {"kept/uploads/b", "kept/uploads/b.notes"}


@pytest.mark.parametrize("stuck", ["a", "a.notes"])
async def test_partly_deleted_media_are_listed_until_removed(
    stuck: str,
    folder: FileSystemMediaStore,
    spool: TempFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever of its files the disk does not part with."""
    await put(folder, spool, "uploads/a", b"x")
    with monkeypatch.context() as patched:
        refuse_deletion(patched, stuck)
        for _ in range(2):
            with pytest.raises(StorageFailed):
                await folder.delete("uploads/a")
            assert await folder.keys("uploads") == ("uploads/a",)
    await folder.delete("uploads/a")
    assert files_in(tmp_path) == set()


async def test_an_undeletable_file_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not there for anybody; the others are cleared, and the folder is of use."""
    stored = tmp_path / "kept" / "outputs" / "gen_1"
    stored.mkdir(parents=True)
    for name in ("0", "1", "2"):
        (stored / name).write_bytes(b"no notes")
    refuse_deletion(monkeypatch, "1")
    with structlog.testing.capture_logs() as logs:
        folder = FileSystemMediaStore(tmp_path / "kept")
    assert [line["file"] for line in logs] == ["outputs/gen_1/1"]
    assert files_in(tmp_path) == {"kept/outputs/gen_1/1"}
    assert await folder.find("outputs/gen_1/1") is None


async def test_an_undeletable_output_does_not_block_others(
    folder: FileSystemMediaStore, spool: TempFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a generation's outputs all go that can; asking again takes the rest."""
    for index in range(10):
        await put(folder, spool, f"outputs/gen_1/{index}", b"x")
    with monkeypatch.context() as patched:
        refuse_deletion(patched, "3", "6")
        with pytest.raises(StorageFailed):
            await folder.delete("outputs/gen_1")
    assert files_in(tmp_path) == {f"kept/outputs/gen_1/{index}" for index in (3, 6)}
    await folder.delete("outputs/gen_1")
    assert files_in(tmp_path) == set()


async def test_a_full_disk_is_reported_and_leaves_nothing(
    folder: FileSystemMediaStore, spool: TempFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the notes cannot be written, the bytes are not there either."""

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mediagate_server.media.file_store.write_private_file", full)
    with pytest.raises(StorageFailed) as caught:
        await put(folder, spool, "outputs/gen_1/0", b"x")
    assert str(tmp_path) not in str(caught.value)
    assert files_in(tmp_path) == set()


CHUNKS = st.integers(0, 2 * HEAD_BYTES) | st.integers(0, 300_000)
"""Sizes: strategies of bytes rarely draw more than a few."""


@given(sizes=st.lists(CHUNKS, max_size=6), limit=st.integers(0, 900_000), seed=st.integers(0, 255))
async def test_the_spool_counts_every_byte(
    sizes: list[int], limit: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Up to the limit all of them, over it none; and the file is gone afterwards."""
    chunks = [Random(seed + index).randbytes(size) for index, size in enumerate(sizes)]
    spool = TempFiles(tmp_path_factory.mktemp("spool"))
    content = b"".join(chunks)
    async with spool.create(limit) as incoming:
        try:
            for chunk in chunks:
                await incoming.write(chunk)
        except FileTooLarge:
            assert len(content) > limit
        else:
            await incoming.finish()
            assert len(content) <= limit
            assert incoming.path.read_bytes() == content
            assert incoming.head == content[:HEAD_BYTES]
            assert incoming.sha256 == hashlib.sha256(content).hexdigest()
    assert not incoming.path.exists()
