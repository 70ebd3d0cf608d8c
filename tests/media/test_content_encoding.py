"""What HTTP encodes on the way is decoded before it is measured and kept."""

import gzip
import hashlib
import zlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from mediagate_server.media.downloader import MediaDownloader
from mediagate_server.media.file_store import FileSystemMediaStore
from mediagate_server.network.content_encoding import (
    TruncatedContent,
    UndecodableContent,
    decode_content,
)

from .file_server import Answer, FileServer
from .test_output_archiver import PICTURE, Archive, content
from .test_output_archiver import archive as archive  # noqa: PLC0414 - the fixture


def raw_deflate(data: bytes) -> bytes:
    """Deflate without zlib's frame, as many servers send it."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def encoded(body: bytes, *codings: str) -> Answer:
    """A picture with Content-Encoding headers."""

    async def answer(_: web.Request) -> web.StreamResponse:
        response = web.Response(body=body, content_type="image/png")
        for coding in codings:
            response.headers.add("Content-Encoding", coding)
        return response

    return answer


HALF = len(PICTURE) // 2


@pytest.mark.parametrize(
    "answer",
    [
        encoded(gzip.compress(PICTURE), "gzip"),
        encoded(gzip.compress(PICTURE), "X-GZIP"),
        encoded(gzip.compress(PICTURE[:HALF]) + gzip.compress(PICTURE[HALF:]), "gzip"),
        encoded(gzip.compress(PICTURE) + bytes(512), "gzip"),
        encoded(gzip.compress(PICTURE) + b"more", "gzip"),
        encoded(zlib.compress(PICTURE), "deflate"),
        encoded(raw_deflate(PICTURE), "deflate"),
        encoded(gzip.compress(gzip.compress(PICTURE)), "gzip, gzip"),
        encoded(gzip.compress(zlib.compress(PICTURE)), "deflate", "gzip"),
        encoded(gzip.compress(PICTURE), "aws-chunked,gzip"),
        encoded(PICTURE, "identity"),
        encoded(PICTURE, ""),
        encoded(PICTURE, "none"),
        encoded(PICTURE, "utf-8"),
        encoded(PICTURE, "aws-chunked"),
        encoded(PICTURE, "gzip"),
    ],
)
async def test_an_encoded_file_is_stored_decoded(
    answer: Answer, archive: Archive, file_server: FileServer, folder: FileSystemMediaStore
) -> None:
    """Its own size, digest and looks; what was only said to be encoded is the file itself."""
    stored = await archive(file_server.put("/out.png", answer))
    assert (stored.failure, stored.is_stored, stored.media_type) == (None, True, "image/png")
    assert (stored.size, stored.sha256) == (len(PICTURE), hashlib.sha256(PICTURE).hexdigest())
    assert (stored.width, stored.height) == (320, 192)
    assert await content(folder) == PICTURE
    assert len(file_server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "tries", "cause"),
    [
        (encoded(gzip.compress(PICTURE)[:-9], "gzip"), 6, "the file is cut off"),
        (encoded(zlib.compress(PICTURE)[:-9], "deflate"), 6, "the file is cut off"),
        (encoded(b"\x1f\x8b" + PICTURE, "gzip"), 6, "it cannot be decoded"),
        (encoded(PICTURE, "br"), 6, "it is encoded in a way that was not asked for"),
        (encoded(PICTURE, "zstd"), 6, "it is encoded in a way that was not asked for"),
        (encoded(PICTURE, "gzip, zebra"), 6, "it is encoded in a way that was not asked for"),
        (encoded(PICTURE, "gzip,gzip,gzip,gzip"), 6, "it is encoded too many times"),
        (encoded(gzip.compress(b""), "gzip"), 6, "the file is empty"),
        (encoded(gzip.compress(bytes(1_000_001)), "gzip"), 1, "it is over 1,000,000 bytes"),
        (
            encoded(gzip.compress(gzip.compress(bytes(400 << 20), 1), 1), "gzip,gzip"),
            1,
            "it is over 1,000,000 bytes",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_undecodable_content_is_refused(
    answer: Answer,
    tries: int,
    cause: str,
    archive: Archive,
    file_server: FileServer,
    folder: FileSystemMediaStore,
) -> None:
    """Nothing encoded passes for the file, and a bomb is given up at the bound."""
    stored = await archive(file_server.put("/out.png", answer))
    assert stored.failure is not None
    assert stored.failure.metadata == {"cause": cause}
    assert await folder.find("outputs/gen_1/0") is None
    assert len(file_server.requests) == tries


async def test_the_encoded_length_is_not_the_files_length(file_server: FileServer) -> None:
    """It is no bound, neither for a file that is larger nor for one that is smaller."""
    packed = gzip.compress(PICTURE)
    async with MediaDownloader(file_server.url, idle_timeout=lambda: 5.0) as fetcher:
        async with fetcher.open(file_server.put("/a", encoded(packed, "gzip"))) as file:
            assert file.size is None
        async with fetcher.open(file_server.put("/b", encoded(PICTURE, "identity"))) as file:
            assert file.size == len(PICTURE)


async def by_pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    """As a connection may deliver it."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 2, 7, 65_536])
@pytest.mark.parametrize(
    ("packed", "coding"),
    [
        (gzip.compress(PICTURE) * 2, "gzip"),
        (zlib.compress(PICTURE * 2), "deflate"),
        (raw_deflate(PICTURE * 2), "deflate"),
        (PICTURE * 2, "gzip"),
        (PICTURE * 2, None),
    ],
)
async def test_chunks_of_any_size(packed: bytes, coding: str | None, size: int) -> None:
    """Wherever the connection cuts."""
    decoded = [piece async for piece in decode_content(by_pieces(packed, size), coding)]
    assert b"".join(decoded) == PICTURE * 2


@pytest.mark.parametrize("zeros", [1, 65_535, 65_536, 65_537, 131_072, 1 << 20])
async def test_decoded_chunks_are_bounded(zeros: int) -> None:
    """However many a few bytes stand for; and none is left behind."""
    packed = gzip.compress(bytes(zeros))
    decoded = [piece async for piece in decode_content(by_pieces(packed, 1 << 20), "gzip")]
    assert sum(map(len, decoded)) == zeros
    assert max(map(len, decoded)) <= 65_536


async def test_an_empty_body_is_valid() -> None:
    """An empty body is no broken one; one byte of a gzip is."""
    assert [piece async for piece in decode_content(by_pieces(b"", 1), "gzip")] == []
    assert [piece async for piece in decode_content(by_pieces(b"x", 1), "gzip")] == [b"x"]
    with pytest.raises(TruncatedContent):
        [piece async for piece in decode_content(by_pieces(b"\x1f\x8b\x08", 1), "gzip")]
    with pytest.raises(UndecodableContent):
        [piece async for piece in decode_content(by_pieces(b"abc", 1), "br")]
