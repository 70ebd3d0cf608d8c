"""Attacks by media: files that inspectors walk byte by byte, and transfers that never end."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from functools import partial

from mediagate.v1 import media_pb2

from .attack import Attack, Attacker, attack

MEBIBYTE = 1024 * 1024
FILES: dict[str, tuple[str, bytes, bytes]] = {
    "jpeg": ("image/jpeg", b"\xff\xd8", b"\xff\xe0\x00\x02"),
    "wav": ("audio/wav", b"RIFF\xff\xff\xff\x7fWAVE", b"junk\x00\x00\x00\x00"),
    "webp": ("image/webp", b"RIFF\xff\xff\xff\x7fWEBP", b"JUNK\x00\x00\x00\x00"),
    "flac": ("audio/flac", b"fLaC", b"\x01\x00\x00\x00"),
    "netpbm": ("image/x-portable-pixmap", b"P6\n", b"#\n"),
    "mp4": (
        "video/mp4",
        b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2",
        b"\x00\x00\x00\x08free",
    ),
    "ogg": ("audio/ogg", b"", b"OggS" + bytes(23)),
    "mp3": ("audio/mpeg", b"ID3\x03\x00\x00\x00\x00\x00\x00", b"\xff\xfb\x90\x00"),
    "png": ("image/png", b"\x89PNG\r\n\x1a\n", struct.pack(">I", 0) + b"tEXt" + bytes(4)),
    "gif": ("image/gif", b"GIF89a" + bytes(7), b"\x21\xfe\x00"),
    "webm": ("video/webm", b"\x1a\x45\xdf\xa3\x80", b"\xec\x80"),
    "aiff": ("audio/aiff", b"FORM\x7f\xff\xff\xffAIFF", b"JUNK\x00\x00\x00\x00"),
}
"""Media type, how it begins, and the empty piece that all the rest is made of."""
Messages = AsyncIterator[media_pb2.UploadMediaRequest]


async def upload_of(name: str, mebibytes: int) -> Messages:
    """A file of empty pieces."""
    media_type, head, piece = FILES[name]
    chunk = piece * (MEBIBYTE // len(piece))
    metadata = media_pb2.UploadMetadata(media_type=media_type)
    yield media_pb2.UploadMediaRequest(metadata=metadata)
    yield media_pb2.UploadMediaRequest(chunk=head + chunk)
    for _ in range(mebibytes - 1):
        yield media_pb2.UploadMediaRequest(chunk=chunk)


async def _upload_empty_pieces(attacker: Attacker, *, name: str) -> None:
    mebibytes = min(24, round(16 * attacker.target.seconds))
    await attacker.repeat(
        lambda: attacker.stubs.media.UploadMedia(upload_of(name, mebibytes)), at_once=2
    )


EMPTY_PIECES = tuple(
    Attack(
        f"upload_of_empty_pieces_{name}",
        "looked at in its first and last part, in places of its own, for a bounded time",
        partial(_upload_empty_pieces, name=name),
    )
    for name in FILES
)


@attack("each holds its own place, and ends when nothing comes of it")
async def uploads_that_trickle(attacker: Attacker) -> None:
    async def trickle() -> Messages:
        yield media_pb2.UploadMediaRequest(metadata=media_pb2.UploadMetadata())
        while attacker.seconds_left:
            yield media_pb2.UploadMediaRequest(chunk=b"x")
            await asyncio.sleep(0.2)

    await attacker.hold_open(200, lambda: attacker.stubs.media.UploadMedia(trickle()))


@attack("one piece waits in memory for whoever does not read")
async def reads_that_nobody_takes(attacker: Attacker) -> None:
    response = await attacker.stubs.media.UploadMedia(upload_of("png", 24))
    request = media_pb2.ReadMediaRequest(upload_id=response.upload_id)
    calls = [attacker.stubs.media.ReadMedia(request) for _ in range(100)]
    await attacker.rest()
    for call in calls:
        call.cancel()


@attack("refused by its size, or by the sum that it does not have")
async def uploads_that_lie(attacker: Attacker) -> None:
    async def lying(metadata: media_pb2.UploadMetadata) -> Messages:
        yield media_pb2.UploadMediaRequest(metadata=metadata)
        yield media_pb2.UploadMediaRequest(chunk=b"x" * 1_000)

    lies = [
        media_pb2.UploadMetadata(size_bytes=2**62),
        media_pb2.UploadMetadata(size_bytes=3),
        media_pb2.UploadMetadata(sha256="f" * 64),
        media_pb2.UploadMetadata(media_type="x" * 100_000),
    ]
    await attacker.repeat(
        lambda: attacker.stubs.media.UploadMedia(lying(attacker.random.choice(lies))), at_once=4
    )


ATTACKS: tuple[Attack, ...] = (
    *EMPTY_PIECES,
    uploads_that_trickle,
    reads_that_nobody_takes,
    uploads_that_lie,
)
