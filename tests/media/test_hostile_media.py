"""Files made to keep their reader busy: looked at for a few reads, whatever they claim to hold."""

import collections
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mediagate_server.media.bounded_reader import (
    MAX_BYTES,
    MAX_CALLS,
    MAX_SECONDS,
    BoundedFile,
    ReadLimitReached,
)
from mediagate_server.media.isolated_probe import IsolatedProbe
from mediagate_server.media.probe import ProbeResult, detect_media_type, probe_file
from mediagate_server.workers.worker_pool import WorkerPool

from .test_probe import read, sound

MIB = 1024 * 1024
COUNT = 4 * MIB
"""Blocks in each file: over ten seconds of work for whoever looks at all of them."""


class CountedPath(type(Path())):  # type: ignore[misc]
    """A file whose reads, and bytes that were read, are counted."""

    calls = 0
    bytes_read = 0

    def open(self, *arguments: Any, **options: Any) -> Any:
        """As Path.open."""
        path = self

        class Counted(io.FileIO):
            def read(self, size: int | None = -1) -> bytes | None:  # type: ignore[override]
                data = super().read(-1 if size is None else size)
                path.calls += 1
                path.bytes_read += len(data or b"")
                return data

        return Counted(str(self))


def box(kind: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    """A box of MP4 and its family."""
    return struct.pack(">I", len(content) + 8 if size is None else size) + kind + content


def element(kind: bytes, content: bytes) -> bytes:
    """An element of Matroska, its size in eight bytes."""
    return kind + struct.pack(">Q", len(content) | 1 << 56) + content


def nested(levels: int) -> bytes:
    """Segments within segments."""
    content = b""
    for _ in range(levels):
        content = element(b"\x18\x53\x80\x67", content)
    return b"\x1a\x45\xdf\xa3\x80" + content


def ogg_page(content: bytes = b"") -> bytes:
    """A page of one segment that says nothing of its time."""
    return b"OggS\0\0" + bytes(20) + b"\1" + bytes([len(content)]) + content


HOSTILE: dict[str, Callable[[], bytes]] = {
    "jpeg of empty segments": lambda: b"\xff\xd8" + b"\xff\xe1\0\2" * COUNT,
    "jpeg of fill bytes": lambda: b"\xff\xd8" + b"\xff" * (8 * MIB),
    "jpeg without markers": lambda: b"\xff\xd8\xff\xe1\0\2" + b"\0" * (8 * MIB),
    "png of empty chunks": lambda: b"\x89PNG\r\n\x1a\n" + (bytes(4) + b"tEXt" + bytes(4)) * COUNT,
    "gif of empty blocks": lambda: b"GIF89a" + bytes(7) + b"\x21\xfe\0" * COUNT,
    "webp of empty chunks": lambda: b"RIFF\xff\xff\xff\x7fWEBP" + (b"JUNK" + bytes(4)) * COUNT,
    "wav of empty chunks": lambda: b"RIFF\xff\xff\xff\x7fWAVE" + (b"JUNK" + bytes(4)) * COUNT,
    "aiff of empty chunks": lambda: b"FORM\x7f\xff\xff\xffAIFF" + (b"JUNK" + bytes(4)) * COUNT,
    "flac of empty blocks": lambda: b"fLaC" + b"\1\0\0\0" * COUNT,
    "ogg of empty pages": lambda: ogg_page() * MIB,
    "mp3 of nothing": lambda: b"\xff\xfb" + bytes(16 * MIB),
    "id3 of 256 MB": lambda: b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(16 * MIB),
    "id3 of empty frames": lambda: b"ID3\4\0\0\x7f\x7f\x7f\x7f" + (b"TIT2" + bytes(6)) * COUNT,
    "mp4 of empty boxes": lambda: box(b"ftypmp42") + box(b"free") * COUNT,
    "mp4 of box sizes 0": lambda: box(b"ftypmp42") + bytes(8) * COUNT,
    "mp4 of empty tracks": lambda: box(b"ftypmp42") + box(b"moov", box(b"trak") * COUNT),
    "mp4 of huge sizes": lambda: (
        box(b"ftypmp42") + b"\0\0\0\1moov\xff\xff\xff\xff\xff\xff\xff\xff" * MIB
    ),
    "matroska of void": lambda: b"\x1a\x45\xdf\xa3\x80" + b"\xec\x80" * COUNT,
    "matroska nested": lambda: nested(20_000),
    "pbm of comments": lambda: b"P6\n" + b"#\n" * COUNT,
    "pbm of white space": lambda: b"P6" + b" " * (16 * MIB),
    "tiff that goes round": lambda: (
        b"II*\0\x08\0\0\0" + b"\xff\xff" + (bytes(12) * 65_535) + b"\x08"
    ),
    "avif of empty boxes": lambda: box(b"ftypavif") + box(b"free") * COUNT,
    "jp2 of empty boxes": lambda: box(b"jP  ", b"\r\n\x87\n") + box(b"jp2h", box(b"free") * COUNT),
}

DECLARED = {
    "pbm": "image/x-portable-pixmap",
    "tif": "image/tiff",
    "jp2": "image/jp2",
    "aif": "audio/aiff",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_takes_few_reads(name: str, tmp_path: Path) -> None:
    """Nothing is known of it, and it is kept all the same: nothing is raised."""
    path = CountedPath(tmp_path / "file")
    content = HOSTILE[name]()
    (tmp_path / "file").write_bytes(content)
    media_type = detect_media_type(content[:64], DECLARED.get(name[:3], ""))
    assert media_type != "application/octet-stream"
    looks = probe_file(path, media_type)
    assert looks == ProbeResult()
    assert path.calls <= MAX_CALLS
    assert path.bytes_read <= MAX_BYTES + 64 * 1024


async def test_an_endless_probe_is_killed(tmp_path: Path) -> None:
    """An AVIF file that says it has 65,535 extents of no bytes in each of 60,000 items."""
    item = struct.pack(">HHHH", 1, 0, 0, 0xFFFF)
    locations = b"\1\0\0\0" + b"\0\0" + struct.pack(">H", 60_000) + item * 60_000
    types = box(b"infe", b"\2\0\0\0" + struct.pack(">HH", 1, 0) + b"Exif\0")
    iinf = box(b"iinf", b"\0\0\0\0" + struct.pack(">H", 1) + types)
    meta = box(b"meta", b"\0\0\0\0" + iinf + box(b"iloc", locations))
    (tmp_path / "file").write_bytes(box(b"ftyp", b"avif\0\0\0\0avif") + meta)
    (tmp_path / "sound").write_bytes(sound("wav", "pcm_s16le"))
    async with WorkerPool() as workers:
        inspector = IsolatedProbe(workers)
        assert await inspector.probe(tmp_path / "file", "image/avif") == ProbeResult()
        heard = await inspector.probe(tmp_path / "sound", "audio/wav")
        assert heard.seconds == pytest.approx(2, abs=0.15)
        inspector.close()


def test_a_probe_is_bounded_by_calls_bytes_and_time() -> None:
    """Whichever comes first."""
    now = [0.0]
    many = BoundedFile(io.BytesIO(bytes(100_000)), lambda: now[0])
    with pytest.raises(ReadLimitReached):
        collections.deque(iter(lambda: many.read(1), b""), 0)
    large = BoundedFile(io.BytesIO(bytes(2 * MAX_BYTES)), lambda: now[0])
    with pytest.raises(ReadLimitReached):
        large.read()
    late = BoundedFile(io.BytesIO(b"ab"), lambda: now[0])
    assert late.read(1) == b"a"
    now[0] = MAX_SECONDS + 1
    with pytest.raises(ReadLimitReached):
        late.read(1)


def test_the_duration_of_a_long_ogg_file(tmp_path: Path) -> None:
    """An Ogg file of more than a MiB tells how long it plays by its last page."""
    content = bytearray(sound("ogg", "libopus"))
    last = content.rfind(b"OggS")
    filler = bytes(content[content.find(b"OggS", content.find(b"OggS", 4) + 4) : last])
    long = bytes(content[:last]) + filler * (2 * MIB // max(len(filler), 1)) + bytes(content[last:])
    looks = read(long, tmp_path)[1]
    assert looks.seconds == pytest.approx(2, abs=0.2)
