"""ReadMedia: how much of a medium waits in memory for readers who do not take it."""

from __future__ import annotations

from typing import Any

from mediagate.v1 import media_pb2

from .media_transfers import messages
from .stubs import Stubs

MIB = 1024 * 1024

MOST_OF_A_TENANT = 4 * MIB
FULL_PIECE = 256 * 1024


async def first_piece(call: Any) -> int:
    """Bytes of the first piece; the rest is left unread."""
    assert (await call.read()).HasField("media")
    return len((await call.read()).chunk)


async def test_chunk_size_shrinks_with_concurrent_reads(sandbox_stubs: Stubs) -> None:
    """One alone has full ones; sixty that nobody takes hold no more than a few MiB together."""
    head = b"\0\0\0\x18ftypmp42" + bytes(16)
    metadata = media_pb2.UploadMetadata(media_type="video/mp4")
    response = await sandbox_stubs.media.UploadMedia(messages([head, *[bytes(MIB)] * 16], metadata))
    request = media_pb2.ReadMediaRequest(upload_id=response.upload_id)
    calls = [sandbox_stubs.media.ReadMedia(request) for _ in range(60)]
    sizes = [await first_piece(call) for call in calls]
    assert max(sizes) == FULL_PIECE
    assert min(sizes) <= MOST_OF_A_TENANT // len(calls)
    assert sum(sizes) <= 3 * MOST_OF_A_TENANT  # Of full size they would be 15 MiB.
    full_read = sandbox_stubs.media.ReadMedia(request)
    assert sum([len(message.chunk) async for message in full_read]) == response.size_bytes
    for call in calls:
        call.cancel()
