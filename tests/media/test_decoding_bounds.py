"""Decoding is bounded by what comes out: no encoding of next to nothing holds the event loop."""

import asyncio
import gzip
import itertools
import zlib
from collections.abc import AsyncIterator, Iterable

import pytest

from mediagate_server.media.file_store import FileSystemMediaStore
from mediagate_server.network.content_encoding import UndecodableContent, decode_content

from .file_server import FileServer
from .test_content_encoding import encoded, raw_deflate
from .test_output_archiver import PICTURE, Archive, content
from .test_output_archiver import archive as archive  # noqa: PLC0414 - the fixture

EMPTY = gzip.compress(b"")
NOTHING = b"\x00\x00\x00\xff\xff"
"""A stored block of deflate, with nothing in it."""
HEADER = gzip.compress(b"")[:10]


def times(data: bytes, count: int) -> bytes:
    """Gzipped layer by layer, so that a short body stands for a very long one."""
    for _ in range(count):
        data = gzip.compress(data, 9)
    return data


async def at_once(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    """As of a body that has come already: nothing is waited for."""
    for chunk in chunks:
        yield chunk


async def decoded(body: bytes, coding: str) -> bytes:
    """All that is in it."""
    return b"".join([piece async for piece in decode_content(at_once([body]), coding)])


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (EMPTY * 5_000, "gzip"),
        (times(EMPTY * 50_000, 1), "gzip,gzip"),
        (times(EMPTY * 50_000, 2), "gzip,gzip,gzip"),
        (times(gzip.compress(b"x") * 20_000, 1), "gzip,gzip"),
        (NOTHING * 20_000, "deflate"),
        (times(HEADER + NOTHING * 2_000_000, 2), "gzip,gzip,gzip"),
        (times(NOTHING * 2_000_000 + raw_deflate(PICTURE), 1), "deflate,gzip"),
    ],
    ids=["members", "in gzip", "twice", "of one byte", "blocks", "blocks twice", "before a file"],
)
async def test_encoded_padding_without_content_is_refused(
    body: bytes,
    coding: str,
    archive: Archive,
    file_server: FileServer,
    folder: FileSystemMediaStore,
) -> None:
    """With its own words, and nothing is kept."""
    stored = await archive(file_server.put("/out.png", encoded(body, coding)))
    assert stored.failure is not None
    assert stored.failure.metadata == {"cause": "next to nothing is in it for its length"}
    assert await folder.find("outputs/gen_1/0") is None


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (EMPTY * 8 + gzip.compress(PICTURE) + EMPTY * 8, "gzip"),
        (gzip.compress(PICTURE) + bytes(64 << 20), "gzip"),
        (times(gzip.compress(PICTURE) + bytes(64 << 20), 2), "gzip,gzip,gzip"),
        (times(zlib.compress(PICTURE) + b"\x1f" * (64 << 20), 1), "deflate,gzip"),
        (times(PICTURE, 3), "gzip,gzip,gzip"),
    ],
    ids=["few empty members", "padding", "in gzip twice", "behind deflate", "three layers"],
)
async def test_a_file_with_trailing_data_is_stored(
    body: bytes,
    coding: str,
    archive: Archive,
    file_server: FileServer,
    folder: FileSystemMediaStore,
) -> None:
    """Whatever stands behind it."""
    stored = await archive(file_server.put("/out.png", encoded(body, coding)))
    assert (stored.failure, stored.is_stored, stored.media_type) == (None, True, "image/png")
    assert await content(folder) == PICTURE


async def test_reading_stops_soon_after_the_end() -> None:
    """A body that has no end is left where its file has one."""
    consumed = 0

    def endless() -> Iterable[bytes]:
        nonlocal consumed
        yield gzip.compress(PICTURE)
        for consumed in itertools.count(1):  # noqa: B007 - told outside
            yield bytes(16_384)

    decoded = [piece async for piece in decode_content(at_once(endless()), "gzip")]
    assert b"".join(decoded) == PICTURE
    assert consumed == 5


async def test_padding_that_looks_like_a_member_is_padding() -> None:
    """What stands behind the end is read no more, wherever the network cuts."""
    body = [gzip.compress(PICTURE) + b"\x00", b"\x1f\x8b and more"]
    assert b"".join([piece async for piece in decode_content(at_once(body), "gzip")]) == PICTURE


async def test_decoding_yields_to_the_event_loop() -> None:
    """While a body is decoded that has come whole, others go on."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    going_on = asyncio.create_task(others())
    pieces = 0
    async for _ in decode_content(at_once([gzip.compress(bytes(32 << 20))]), "gzip"):
        pieces += 1
    going_on.cancel()
    assert pieces == 512
    assert turns >= pieces // 16


@pytest.mark.timeout(20)
@pytest.mark.parametrize("coding", ["gzip", "gzip,identity", "gzip,gzip"])
async def test_decoding_time_is_bounded(coding: str) -> None:
    """Of a body without an end, all of which is there at once."""

    def endless() -> Iterable[bytes]:
        packers = [zlib.compressobj(wbits=zlib.MAX_WBITS | 16) for _ in coding.split(",g")]
        while True:
            data = bytes(1 << 20)
            for packer in packers:
                data = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
            yield data

    async def read() -> None:
        async for _ in decode_content(at_once(endless()), coding):
            pass

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(), 0.2)


async def test_a_stream_flushed_after_every_byte_is_decoded() -> None:
    """As servers do that write a stream: the dearest honest way to encode."""
    body = bytes(range(256)) * 800
    for mode, bits in ((zlib.Z_SYNC_FLUSH, 31), (zlib.Z_FULL_FLUSH, 15)):
        packer = zlib.compressobj(wbits=bits)
        packed = b"".join(packer.compress(bytes([byte])) + packer.flush(mode) for byte in body)
        packed += packer.flush()
        assert await decoded(packed, "gzip" if bits > 15 else "deflate") == body


async def test_every_encoding_layer_is_bounded() -> None:
    """Also where the last one is a file of some size."""
    hollow = gzip.compress(PICTURE) + EMPTY * 400_000
    with pytest.raises(UndecodableContent, match="next to nothing"):
        await decoded(times(hollow, 2), "gzip,gzip,gzip")
