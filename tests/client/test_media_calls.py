"""Uploads and reads of both faces: begun anew or gone on with after a cut, and proven whole."""

import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.media_pb2 import DocumentRef, ReadMediaResponse, UploadMediaResponse
from mediagate.v1.medium_pb2 import Media, OutputRef
from mediagate_client import (
    AsyncClient,
    Client,
    DataLost,
    InvalidRequest,
    MediaTooLarge,
    NotFound,
    Unavailable,
)

from .rpc_statuses import status
from .scripted_server import ScriptedServer
from .test_request_conversion import PNG

C = grpc.StatusCode
FILE = bytes(range(256)) * 8_192
SHA = hashlib.sha256(FILE).hexdigest()
CUT = status(C.UNAVAILABLE, "DRAINING")
STORED = Media(id="gen_1/0", media_type="image/png", size_bytes=len(FILE), sha256=SHA)


def upload_response(content: bytes, sha256: str = "") -> UploadMediaResponse:
    """What a server answers that got these bytes."""
    digest = sha256 or hashlib.sha256(content).hexdigest()
    return UploadMediaResponse(upload_id="upl_1", size_bytes=len(content), sha256=digest)


def sent(content: bytes, start: int = 0, stop: int | None = None) -> Iterator[ReadMediaResponse]:
    """How a server streams a part of a file."""
    digest = hashlib.sha256(content).hexdigest()
    yield ReadMediaResponse(media=Media(id="gen_1/0", size_bytes=len(content), sha256=digest))
    content_range = content[start:stop]
    for at in range(0, len(content_range), 300_000):
        yield ReadMediaResponse(chunk=content_range[at : at + 300_000])


def content_of(requests: Iterable[Any]) -> bytes:
    """The bytes of an upload."""
    first, *rest = requests
    assert first.HasField("metadata")
    assert all(0 < len(request.chunk) <= 2 * 1024 * 1024 for request in rest)
    return b"".join(request.chunk for request in rest)


def names_in(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(file.name for file in folder.iterdir())


async def all_of(pieces: AsyncIterator[bytes]) -> bytes:
    """Everything, as one."""
    return b"".join([piece async for piece in pieces])


async def test_files_and_bytes_are_uploaded(
    scripted_server: ScriptedServer, client: Client, async_client: AsyncClient, tmp_path: Path
) -> None:
    """In pieces, with what they are; the answer is an input."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG + FILE)
    for _ in range(3):
        scripted_server.plays("UploadMedia", upload_response(PNG + FILE))
    assert client.upload(path).upload_id == "upl_1"
    assert client.upload(PNG + FILE, media_type="image/x-cat").upload_id == "upl_1"
    uploaded = await async_client.upload(str(path))
    assert uploaded.upload_id == "upl_1"
    for requests, media_type in zip(
        scripted_server.requests_of("UploadMedia"),
        ("image/png", "image/x-cat", "image/png"),
        strict=True,
    ):
        metadata = requests[0].metadata
        assert (metadata.media_type, metadata.size_bytes) == (media_type, len(PNG + FILE))
        assert content_of(requests) == PNG + FILE


async def test_an_upload_restarts_after_a_broken_connection(
    scripted_server: ScriptedServer, client: Client, async_client: AsyncClient
) -> None:
    """From its first byte. What is refused is not sent again."""
    for _ in range(2):
        scripted_server.plays("UploadMedia", CUT)
        scripted_server.plays("UploadMedia", upload_response(FILE))
    assert client.upload(FILE).sha256 == SHA
    assert (await async_client.upload(FILE)).sha256 == SHA
    assert [content_of(requests) for requests in scripted_server.requests_of("UploadMedia")] == [
        FILE
    ] * 4
    refusal = status(C.INVALID_ARGUMENT, "MEDIA_TOO_LARGE", fields=["metadata.size_bytes"])
    scripted_server.plays("UploadMedia", refusal)
    scripted_server.plays("UploadMedia", refusal)
    with pytest.raises(MediaTooLarge):
        client.upload(FILE)
    with pytest.raises(MediaTooLarge):
        await async_client.upload(FILE)
    assert len(scripted_server.requests_of("UploadMedia")) == 6


async def test_an_upload_with_a_wrong_digest_fails(
    scripted_server: ScriptedServer, client: Client, async_client: AsyncClient
) -> None:
    """By its SHA-256: never taken for the one that was sent."""
    for _ in range(2):
        scripted_server.plays("UploadMedia", upload_response(FILE, "0" * 64))
    with pytest.raises(DataLost):
        client.upload(FILE)
    with pytest.raises(DataLost):
        await async_client.upload(FILE)


async def test_files_that_cannot_be_uploaded(
    scripted_server: ScriptedServer, client: Client, async_client: AsyncClient, tmp_path: Path
) -> None:
    """Empty, missing, a folder: refused here."""
    empty = tmp_path / "empty"
    empty.touch()
    for source in (b"", empty, tmp_path / "missing", tmp_path):
        with pytest.raises(InvalidRequest):
            client.upload(source)
        with pytest.raises(InvalidRequest):
            await async_client.upload(source)
    assert scripted_server.requests_of("UploadMedia") == []


@pytest.mark.parametrize(
    "source",
    [
        STORED,
        OutputRef(generation_id="gen_1"),
        Generation(id="gen_1"),
        UploadMediaResponse(upload_id="upl_1"),
        "upl_1",
    ],
    ids=lambda source: type(source).__name__,
)
async def test_reading(
    source: Any, scripted_server: ScriptedServer, client: Client, async_client: AsyncClient
) -> None:
    """Whatever names it."""
    scripted_server.plays("ReadMedia", sent(FILE))
    scripted_server.plays("ReadMedia", sent(FILE, 10, 30))
    assert b"".join(client.read_media(source)) == FILE
    assert await all_of(async_client.read_media(source, offset=10, limit=20)) == FILE[10:30]
    full_request, range_request = scripted_server.requests_of("ReadMedia")
    assert (full_request.offset, full_request.HasField("limit")) == (0, False)
    assert (range_request.offset, range_request.limit) == (10, 20)
    name = full_request.upload_id or full_request.output.generation_id
    assert name in ("upl_1", "gen_1")


@pytest.mark.parametrize("name", ["output", "logs"])
async def test_reading_documents(
    name: str,
    scripted_server: ScriptedServer,
    client: Client,
    async_client: AsyncClient,
    tmp_path: Path,
) -> None:
    """Texts, JSON and logs that are too large to be shown, by what is shown or by their names."""
    ref = DocumentRef(generation_id="gen_1", kind=DocumentRef.Kind.Value(f"KIND_{name.upper()}"))
    media = Media(id=f"gen_1/{name}", size_bytes=len(FILE), sha256=SHA)
    for _ in range(6):
        scripted_server.plays("ReadMedia", sent(FILE))
    for source in (ref, media):
        assert b"".join(client.read_media(source)) == FILE
        assert await all_of(async_client.read_media(source)) == FILE
    client.download(media, tmp_path / "one")
    await async_client.download(media, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == FILE
    assert [request.document for request in scripted_server.requests_of("ReadMedia")] == [ref] * 6


async def test_a_read_resumes_after_a_broken_connection(
    scripted_server: ScriptedServer, client: Client, async_client: AsyncClient
) -> None:
    """At the byte where it stopped, also where the stream just ended."""
    for _ in range(2):
        scripted_server.plays("ReadMedia", sent(FILE, 0, 700_000), CUT)
        scripted_server.plays("ReadMedia", sent(FILE, 700_000, 900_000))
        scripted_server.plays("ReadMedia", sent(FILE, 900_000))
    assert b"".join(client.read_media(STORED)) == FILE
    assert await all_of(async_client.read_media(STORED)) == FILE
    assert [request.offset for request in scripted_server.requests_of("ReadMedia")] == [
        0,
        700_000,
        900_000,
    ] * 2


async def test_a_read_that_fails(
    scripted_server: ScriptedServer, client: Client, async_client: AsyncClient
) -> None:
    """The typed error, at once where there is no use in trying."""
    gone = status(C.NOT_FOUND, "GENERATION_NOT_FOUND")
    scripted_server.plays("ReadMedia", gone)
    scripted_server.plays("ReadMedia", gone)
    with pytest.raises(NotFound):
        list(client.read_media(STORED))
    with pytest.raises(NotFound):
        await all_of(async_client.read_media(STORED))
    for _ in range(40):  # The channel tries reads again by itself, and so do we.
        scripted_server.plays("ReadMedia", CUT)
    with pytest.raises(Unavailable):
        list(client.read_media(STORED))
    with pytest.raises(InvalidRequest):
        list(client.read_media(Media(uri="https://a/b")))


async def test_a_changed_medium_after_a_broken_connection(
    scripted_server: ScriptedServer, client: Client
) -> None:
    """Two halves of two files are no file."""
    scripted_server.plays("ReadMedia", sent(FILE, 0, 700_000), CUT)
    scripted_server.plays("ReadMedia", sent(FILE + b"x", 700_000))
    with pytest.raises(DataLost):
        list(client.read_media(STORED))


async def test_media_without_a_url_are_downloaded_from_the_server(
    scripted_server: ScriptedServer, client: Client, async_client: AsyncClient, tmp_path: Path
) -> None:
    """From the server itself, and proven whole."""
    for _ in range(2):
        scripted_server.plays("ReadMedia", sent(FILE))
    client.download(STORED, tmp_path / "one")
    await async_client.download(STORED, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == FILE
    other = FILE + b"x"
    for _ in range(2):
        scripted_server.plays("ReadMedia", sent(other))
    with pytest.raises(DataLost):
        client.download(STORED, tmp_path / "one")
    with pytest.raises(DataLost):
        await async_client.download(STORED, tmp_path / "three")
    assert (tmp_path / "one").read_bytes() == FILE
    assert names_in(tmp_path) == ["one", "two"]
