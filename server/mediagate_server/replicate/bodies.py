"""Bodies of answers: bounded, whole as far as they came, unpacked where they must be."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import httpx

from mediagate_server.content_encoding import (
    TruncatedContent,
    UndecodableContent,
    decode_content,
    is_encoded,
)
from mediagate_server.replicate.large_bodies import MOST_INLINE, Body, LargeBodies
from mediagate_server.replicate.port import NoAnswer

LARGEST_ERROR = 64 * 1024
"""Bytes of a body that is only read to see why something was refused."""


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
    chunks = _decoded(chunks, packing)
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


async def read_body(
    chunks: AsyncIterator[bytes], status: int, packing: str | None, largest: int
) -> bytes:
    """The body, decoded. One that breaks off is given as far as it came.

    JSON says itself whether it is whole, and a prediction whose id was read is no doubt any more.
    NoAnswer where nothing came before it broke, or more than `largest` bytes.
    """
    read: list[bytes] = []
    size = 0
    try:
        async for chunk in _decoded(chunks, packing):
            size += len(chunk)
            if size > largest:
                raise NoAnswer("the answer is too large", http_status=status)
            read.append(chunk)
    except (httpx.HTTPError, aiohttp.ClientError, OSError):
        if not read:
            raise NoAnswer("the connection broke in the answer") from None
    return b"".join(read)


def _decoded(chunks: AsyncIterator[bytes], packing: str | None) -> AsyncIterator[bytes]:
    """Asked for identity, some servers encode all the same."""
    return _decoding(chunks, packing) if is_encoded(packing) else chunks


async def _decoding(chunks: AsyncIterator[bytes], packing: str | None) -> AsyncIterator[bytes]:
    """What breaks off counts as far as it came, as a connection does."""
    try:
        async for chunk in decode_content(chunks, packing):
            yield chunk
    except TruncatedContent:
        return
    except UndecodableContent as undecodable:
        raise NoAnswer(f"the answer cannot be read: {undecodable}") from None
