"""Bodies of answers as bytes: bounded, whole as far as they came, unpacked where they must be."""

import zlib
from collections.abc import AsyncIterable

import aiohttp
import httpx

from mediagate_server.replicate.port import NoAnswer

LARGEST_ERROR = 64 * 1024
"""Bytes of a body that is only read to see why something was refused."""


async def read_body(chunks: AsyncIterable[bytes], status: int, largest: int) -> bytes:
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


def unpacked(body: bytes, packing: str | None, largest: int) -> bytes:
    """Asked for identity, some servers pack all the same. The bound holds while unpacking."""
    packing = (packing or "identity").strip().lower()
    if packing in ("", "identity"):
        return body
    if packing not in ("gzip", "x-gzip", "deflate"):
        raise NoAnswer("the answer is packed in an unknown way")
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        plain = unpacker.decompress(body, largest)
    except zlib.error as broken:
        raise NoAnswer("the answer cannot be unpacked") from broken
    if unpacker.unconsumed_tail:
        raise NoAnswer("the answer is too large")
    return plain
