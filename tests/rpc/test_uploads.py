"""UploadMedia and ReadMedia of uploads, through a server."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog

from mediagate.v1 import media_pb2
from mediagate_sandbox.files import render_file
from mediagate_sandbox.generators.spec import ImageRecipe
from mediagate_sandbox.server import Sandbox
from mediagate_server.errors import UploadNotFound
from mediagate_server.media.file_store import FileSystemMediaStore
from mediagate_server.media.isolated_probe import IsolatedProbe
from mediagate_server.media.temp_files import TempFiles
from mediagate_server.media.uploads import Upload, UploadStore
from tests.grpc_errors import fields_of, reason_of, rpc_error, upload_error

from .media_transfers import messages, read, read_upload, until, upload
from .stubs import OpenServer, Stubs

PICTURE = render_file(ImageRecipe("a/b", "x", 1, 320, 192, "png"))
MIB = 1024 * 1024
Metadata = media_pb2.UploadMetadata
Request = media_pb2.UploadMediaRequest


def stored_files(folder: Path) -> list[Path]:
    """Every file of the media folder."""
    return [file for file in (folder / "data" / "media").rglob("*") if file.is_file()]


async def test_an_upload_is_read_back(sandbox_stubs: Stubs) -> None:
    """With what it is, and in any part."""
    uploaded = await upload(
        sandbox_stubs,
        PICTURE,
        size_bytes=len(PICTURE),
        sha256=hashlib.sha256(PICTURE).hexdigest(),
    )
    assert uploaded.size_bytes == len(PICTURE)
    assert uploaded.sha256 == hashlib.sha256(PICTURE).hexdigest()
    assert uploaded.media_type == "image/png"
    assert 86_000 < uploaded.expire_time.seconds - time.time() <= 86_400
    media, content = await read_upload(sandbox_stubs, uploaded.upload_id)
    assert content == PICTURE
    assert (media.id, media.size_bytes, media.sha256) == (
        uploaded.upload_id,
        len(PICTURE),
        uploaded.sha256,
    )
    assert (media.width, media.height, media.media_type) == (320, 192, "image/png")
    for offset, limit in ((10, 20), (len(PICTURE) - 1, 5), (len(PICTURE), 5), (3, 0)):
        _, range_content = await read_upload(
            sandbox_stubs, uploaded.upload_id, offset=offset, limit=limit
        )
        assert range_content == PICTURE[offset : offset + limit]


async def test_the_declared_type_is_used_for_unrecognized_content(sandbox_stubs: Stubs) -> None:
    """The bytes themselves come first."""
    assert (await upload(sandbox_stubs, b"{}", media_type="model/obj")).media_type == "model/obj"
    assert (await upload(sandbox_stubs, PICTURE, media_type="image/gif")).media_type == "image/png"
    assert (await upload(sandbox_stubs, b"{}")).media_type == "application/octet-stream"


CHUNK = Request(chunk=b"abc")
SHA = hashlib.sha256(b"abc").hexdigest()
BAD: dict[str, tuple[list[Request], str, str]] = {
    "nothing at all": ([], "INVALID_REQUEST", "metadata"),
    "no metadata": ([CHUNK], "INVALID_REQUEST", "metadata"),
    "metadata twice": (
        [Request(metadata=Metadata()), CHUNK, Request(metadata=Metadata())],
        "INVALID_REQUEST",
        "metadata",
    ),
    "no bytes": ([Request(metadata=Metadata())], "INVALID_REQUEST", "chunk"),
    "an empty chunk": (
        [Request(metadata=Metadata()), Request(chunk=b"")],
        "INVALID_REQUEST",
        "chunk",
    ),
    "an empty message": ([Request(metadata=Metadata()), Request()], "INVALID_REQUEST", "request"),
    "fewer bytes": (
        [Request(metadata=Metadata(size_bytes=4)), CHUNK],
        "INVALID_REQUEST",
        "metadata.size_bytes",
    ),
    "more bytes": (
        [Request(metadata=Metadata(size_bytes=2)), CHUNK, CHUNK],
        "INVALID_REQUEST",
        "metadata.size_bytes",
    ),
    "another hash": (
        [Request(metadata=Metadata(sha256="0" * 64)), CHUNK],
        "INVALID_REQUEST",
        "metadata.sha256",
    ),
    "no hash": (
        [Request(metadata=Metadata(sha256="abc")), CHUNK],
        "INVALID_REQUEST",
        "metadata.sha256",
    ),
    "a negative size": (
        [Request(metadata=Metadata(size_bytes=-1)), CHUNK],
        "INVALID_REQUEST",
        "metadata.size_bytes",
    ),
    "no media type": (
        [Request(metadata=Metadata(media_type="png")), CHUNK],
        "INVALID_REQUEST",
        "metadata.media_type",
    ),
    "announced too large": (
        [Request(metadata=Metadata(size_bytes=100_000_001)), CHUNK],
        "MEDIA_TOO_LARGE",
        "metadata.size_bytes",
    ),
    "a chunk too large": (
        [Request(metadata=Metadata()), Request(chunk=bytes(2 * MIB + 1))],
        "MEDIA_TOO_LARGE",
        "chunk",
    ),
}


@pytest.mark.parametrize("case", sorted(BAD))
async def test_invalid_uploads_are_refused(case: str, sandbox_stubs: Stubs, tmp_path: Path) -> None:
    """Each is refused with its field, and leaves nothing on the disk."""
    requests, reason, field = BAD[case]

    async def sent() -> AsyncIterator[Request]:
        for request in requests:
            yield request

    error = await upload_error(sandbox_stubs.media.UploadMedia, sent)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == reason
    assert fields_of(error) == {field}
    assert stored_files(tmp_path) == []


async def test_an_oversized_upload_is_refused_early(sandbox_stubs: Stubs, tmp_path: Path) -> None:
    """Without an announced size too: at the first byte over it, nothing kept."""

    def chunks() -> Iterable[bytes]:
        for _ in range(50):
            yield bytes(2_000_000)
        yield b"x"

    error = await upload_error(
        sandbox_stubs.media.UploadMedia, lambda: messages(chunks(), Metadata())
    )
    assert reason_of(error) == "MEDIA_TOO_LARGE"
    assert fields_of(error) == {"chunk"}
    assert stored_files(tmp_path) == []


async def test_a_cancelled_upload_leaves_no_file(sandbox_stubs: Stubs, tmp_path: Path) -> None:
    """Cancelled half-way: the file in the spool goes too."""
    sent = asyncio.Event()

    async def endless() -> AsyncIterator[Request]:
        yield Request(metadata=Metadata())
        for _ in range(8):
            yield Request(chunk=bytes(MIB))
        sent.set()
        await asyncio.Event().wait()

    call: Any = sandbox_stubs.media.UploadMedia(endless())
    await sent.wait()
    await until(lambda: bool(stored_files(tmp_path)))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: not stored_files(tmp_path))


@pytest.mark.parametrize("name", ["upl_" + "0" * 32, "upl_1", "../../secret", "gen_1", "é"])
async def test_missing_uploads_are_not_found(name: str, sandbox_stubs: Stubs) -> None:
    """Whatever the name is."""
    error = await rpc_error(read_upload(sandbox_stubs, name))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(error) == "UPLOAD_NOT_FOUND"


async def test_invalid_reads_are_refused(sandbox_stubs: Stubs) -> None:
    """No source, an offset past the end, a negative one."""
    name = (await upload(sandbox_stubs, PICTURE)).upload_id
    for request, code, reason in (
        (media_pb2.ReadMediaRequest(), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (
            media_pb2.ReadMediaRequest(upload_id=name, offset=-1),
            "INVALID_ARGUMENT",
            "INVALID_REQUEST",
        ),
        (
            media_pb2.ReadMediaRequest(upload_id=name, offset=len(PICTURE) + 1),
            "OUT_OF_RANGE",
            "STREAM_EXPIRED",
        ),
    ):
        error = await rpc_error(read(sandbox_stubs, request))
        assert (error.code().name, reason_of(error)) == (code, reason)


async def test_uploads_survive_a_restart(
    sandbox: Sandbox, open_server: OpenServer, tmp_path: Path
) -> None:
    """They are on the disk; what was half way is not."""
    async with open_server(sandbox.url) as (stubs, _):
        name = (await upload(stubs, PICTURE)).upload_id
    (tmp_path / "data" / "media" / "incoming" / "half").write_bytes(b"half")
    async with open_server(sandbox.url) as (stubs, _):
        assert (await read_upload(stubs, name))[1] == PICTURE
        assert {file.parent.name for file in stored_files(tmp_path)} == {"uploads"}


def uploads_in(folder: Path, now: Callable[[], datetime]) -> UploadStore:
    """Uploads of at most 100 bytes that live for a minute."""
    return UploadStore(
        FileSystemMediaStore(folder / "kept"),
        TempFiles(folder / "incoming"),
        IsolatedProbe(),
        now=now,
        max_bytes=lambda: 100,
        lifetime=lambda: 60.0,
    )


async def store_upload(uploads: UploadStore) -> Upload:
    """An upload of three bytes."""
    async with uploads.create_temp_file() as incoming:
        await incoming.write(b"abc")
        await incoming.finish()
        return await uploads.finish(incoming, tenant="one", media_type="")


async def test_expiry_and_tenants(tmp_path: Path) -> None:
    """After its life an upload is not found, then erased. Another tenant never finds it."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    uploads = uploads_in(tmp_path, lambda: now)
    stored = await store_upload(uploads)
    assert await uploads.find("one", stored.id) == stored
    with pytest.raises(UploadNotFound) as other:
        await uploads.find("two", stored.id)
    assert await uploads.delete_expired() == 0
    now += timedelta(seconds=60)
    with pytest.raises(UploadNotFound) as late:
        await uploads.find("one", stored.id)
    assert other.value.failure == late.value.failure
    assert await uploads.delete_expired() == 1
    assert await FileSystemMediaStore(tmp_path / "kept").keys("uploads") == ()


async def test_an_undeletable_upload_does_not_block_others(tmp_path: Path) -> None:
    """Whatever ails it: the others go, it is named, and goes once it can."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    uploads = uploads_in(tmp_path, lambda: now)
    names = sorted([(await store_upload(uploads)).id for _ in range(5)])
    stuck, unread, broken, *_ = names
    folder, aside = tmp_path / "kept" / "uploads", tmp_path / "aside"
    aside.mkdir()
    (folder / stuck).unlink()
    (folder / stuck).symlink_to(aside)  # Neither a file nor a folder that could be removed.
    (folder / f"{unread}.notes").rename(aside / "notes")
    (folder / f"{unread}.notes").mkdir()
    (folder / f"{broken}.notes").write_bytes(b"{}")
    now += timedelta(seconds=60)
    for erased in (2, 0):
        with structlog.testing.capture_logs() as logs:
            assert await uploads.delete_expired() == erased
        levels = {line["upload"]: line["log_level"] for line in logs if "upload" in line}
        assert levels == {stuck: "warning", unread: "warning", broken: "error"}
        assert [line["count"] for line in logs if "count" in line] == [2]
        left = {file.name.removesuffix(".notes") for file in folder.iterdir()}
        assert left == {stuck, unread, broken}
    (folder / stuck).unlink()  # Its bytes are gone now: what is left of it is its notes.
    (folder / f"{unread}.notes").rmdir()
    (aside / "notes").rename(folder / f"{unread}.notes")
    (folder / f"{broken}.notes").write_bytes((folder / f"{unread}.notes").read_bytes())
    assert await uploads.delete_expired() == 3
    assert list(folder.iterdir()) == []


async def test_cleanup_continues_after_an_internal_error(tmp_path: Path) -> None:
    """What could not be cleaned once is cleaned the next time."""
    noon = datetime(2026, 11, 24, tzinfo=UTC)
    times = iter([noon])
    folder = FileSystemMediaStore(tmp_path / "kept")
    uploads = UploadStore(
        folder,
        TempFiles(tmp_path / "incoming"),
        IsolatedProbe(),
        now=lambda: next(times),
        max_bytes=lambda: 100,
        lifetime=lambda: 60.0,
    )
    async with uploads.create_temp_file() as incoming:
        await incoming.write(b"abc")
        await incoming.finish()
        await uploads.finish(incoming, tenant="one", media_type="")
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal times
        pauses.append(seconds)
        times = iter([noon + timedelta(seconds=61)] * 9)
        if len(pauses) == 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await uploads.run_cleanup(sleep)
    assert await folder.keys("uploads") == ()
