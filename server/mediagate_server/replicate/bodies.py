"""Bodies of answers: bounded, whole as far as they came, unpacked where they must be."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import httpx

from mediagate_server.replicate.large_bodies import MOST_INLINE, Body, LargeBodies
from mediagate_server.replicate.port import NoAnswer

LARGEST_ERROR = 64 * 1024
"""Bytes of a body that is only read to see why something was refused."""


_UNPACKED_AT_ONCE: Final = 64 * 1024


async def receive_body(
    chunks: AsyncIterator[bytes],
    status: int,
    packing: str | None,
    large: LargeBodies,
    within: asyncio.Timeout | None,
) -> Body:
    """The body of a success, unpacked: as bytes where it is small, else in a file.

    One that breaks off is given as far as it came, if it is small.
    """
    chunks = unpacked(chunks, packing)
    read: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            size += len(chunk)
            read.append(chunk)
            if size > MOST_INLINE:
                begun = b"".join(read)
                read.clear()
                return await large.receive(begun, chunks, status, within)
    except (httpx.HTTPError, aiohttp.ClientError, OSError):
        if not read:
            raise NoAnswer("the connection broke in the answer") from None
    return b"".join(read)


async def read_body(chunks: AsyncIterator[bytes], status: int, largest: int) -> bytes:
    """The body as sent. One that breaks off is given as far as it came.

    JSON says itself whether it is whole, and a prediction whose id was read is no doubt any more.
    NoAnswer where nothing came before it broke, or more than `largest` bytes.
    """
    read: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            size += len(chunk)
            if size > largest:
                raise NoAnswer("the answer is too large", http_status=status)
            read.append(chunk)
    except (httpx.HTTPError, aiohttp.ClientError, OSError):
        if not read:
            raise NoAnswer("the connection broke in the answer") from None
    return b"".join(read)


def unpacked(chunks: AsyncIterator[bytes], packing: str | None) -> AsyncIterator[bytes]:
    """Asked for identity, some servers pack all the same. NoAnswer for an unknown way of it."""
    packing = (packing or "identity").strip().lower()
    if packing in ("", "identity"):
        return chunks
    if packing not in ("gzip", "x-gzip", "deflate"):
        raise NoAnswer("the answer is packed in an unknown way")
    return _unpacking(chunks)


async def _unpacking(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A little at a time: a few bytes may stand for a thousand times as many. Whoever takes what
    is unpacked bounds it, as all that comes as it is.
    """
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    async for packed in chunks:
        data = packed
        while True:
            try:
                plain = unpacker.decompress(data, _UNPACKED_AT_ONCE)
            except zlib.error:
                raise NoAnswer("the answer cannot be unpacked") from None
            data = unpacker.unconsumed_tail
            if plain:
                yield plain
            if not data and len(plain) < _UNPACKED_AT_ONCE:
                break
