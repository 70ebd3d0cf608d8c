"""Uploads and reads of media, as a caller does them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from mediagate.v1 import media_pb2, medium_pb2

from .stubs import Stubs

CHUNK = 1024 * 1024


async def until(condition: Callable[[], bool]) -> None:
    """Polls for something on the disk, which tells nobody of its changes."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came about")


async def messages(
    content: Iterable[bytes], metadata: media_pb2.UploadMetadata
) -> AsyncIterator[media_pb2.UploadMediaRequest]:
    """An upload: what it is, then its bytes."""
    yield media_pb2.UploadMediaRequest(metadata=metadata)
    for chunk in content:
        yield media_pb2.UploadMediaRequest(chunk=chunk)


async def upload(stubs: Stubs, content: bytes, **metadata: Any) -> media_pb2.UploadMediaResponse:
    """Upload some bytes."""
    chunks = (content[at : at + CHUNK] for at in range(0, len(content), CHUNK))
    return await stubs.media.UploadMedia(messages(chunks, media_pb2.UploadMetadata(**metadata)))


async def read(stubs: Stubs, request: media_pb2.ReadMediaRequest) -> tuple[medium_pb2.Media, bytes]:
    """What a medium is, and the bytes asked for."""
    first, *rest = [message async for message in stubs.media.ReadMedia(request)]
    assert all(0 < len(message.chunk) <= CHUNK for message in rest)
    return first.media, b"".join(message.chunk for message in rest)


async def read_upload(
    stubs: Stubs, upload_id: str, offset: int = 0, limit: int | None = None
) -> tuple[medium_pb2.Media, bytes]:
    """The same, of an upload."""
    return await read(
        stubs, media_pb2.ReadMediaRequest(upload_id=upload_id, offset=offset, limit=limit)
    )


async def read_output(
    stubs: Stubs, generation_id: str, index: int = 0, offset: int = 0, limit: int | None = None
) -> tuple[medium_pb2.Media, bytes]:
    """The same, of an output."""
    ref = medium_pb2.OutputRef(generation_id=generation_id, index=index)
    return await read(stubs, media_pb2.ReadMediaRequest(output=ref, offset=offset, limit=limit))
