"""MP4 header parser: size and duration of MP4, QuickTime and M4A files (ISO/IEC 14496-12 boxes).

Only headers are read: other boxes are skipped, whatever length they claim to have.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mediagate_server.media.bounded_reader import BoundedFile

_MAX_BOXES: Final = 10_000
"""Boxes that are read at most: a fragmented video of some hours has as many. Each takes two calls
of the file's limit."""
_HEADER_BYTES: Final = 128
_CONTAINER_BOXES: Final = ((b"moov",), (b"moov", b"trak"), (b"moov", b"mvex"))


@dataclass(frozen=True, slots=True)
class VideoHeader:
    """Duration and displayed pixel size by a video's headers; None: unknown, or none."""

    seconds: float | None = None
    width: int | None = None
    height: int | None = None


def read_mp4_header(file: BoundedFile) -> VideoHeader:
    """Parse a file's headers; empty for a file of another format."""
    end = file.seek(0, 2)
    reader = _BoxReader(file)
    reader.walk(0, end, ())
    units = reader.units or reader.fragment_units
    seconds = units / reader.timescale if units and reader.timescale else None
    return VideoHeader(seconds, reader.width, reader.height)


class _BoxReader:
    """Parser of one file's boxes, with the values found so far."""

    def __init__(self, file: BoundedFile) -> None:
        self._file = file
        self._boxes_left = _MAX_BOXES
        self.timescale = 0
        self.units = 0
        """Duration in units of the time scale."""
        self.fragment_units = 0
        """Duration of a fragmented file, whose header does not have it."""
        self.width: int | None = None
        self.height: int | None = None

    def walk(self, start: int, end: int, parents: tuple[bytes, ...]) -> None:
        """Read the boxes from `start` to `end`; `parents` are the boxes they are in."""
        for kind, at, until in self._boxes(start, end):
            path = (*parents, kind)
            if path in _CONTAINER_BOXES:
                self.walk(at, until, path)
            elif path == (b"moov", b"mvhd"):
                self._read_movie_header(self._content(at, until))
            elif path == (b"moov", b"mvex", b"mehd"):
                self.fragment_units = _number(self._content(at, until), 4, 4)
            elif path == (b"moov", b"trak", b"tkhd") and self.width is None:
                self._read_track_header(self._content(at, until))

    def _boxes(self, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Each box's type, and the range of its content. Stops at a truncated one."""
        while start + 8 <= end and self._boxes_left > 0:
            self._boxes_left -= 1
            self._file.seek(start)
            header = self._file.read(16)
            size, content = int.from_bytes(header[:4], "big"), start + 8
            if size == 1:
                size, content = int.from_bytes(header[8:16], "big"), start + 16
            elif size == 0:
                size = end - start
            if not content <= start + size <= end:
                return
            yield header[4:8], content, start + size
            start += size

    def _content(self, at: int, until: int) -> bytes:
        self._file.seek(at)
        return self._file.read(min(until - at, _HEADER_BYTES))

    def _read_movie_header(self, box: bytes) -> None:
        """Times have 4 bytes in version 0 and 8 in version 1."""
        wide = box[:1] == b"\1"
        self.timescale = _number(box, 20 if wide else 12, 4)
        self.units = _number(box, 24, 8) if wide else _number(box, 16, 4)

    def _read_track_header(self, box: bytes) -> None:
        """Width and height are 16.16 fixed, before the matrix that may turn the picture."""
        matrix = 52 if box[:1] == b"\1" else 40
        width, height = _number(box, matrix + 36, 4) >> 16, _number(box, matrix + 40, 4) >> 16
        if not (width and height):
            return  # An audio track.
        is_turned = not _number(box, matrix, 4) and bool(_number(box, matrix + 4, 4))
        self.width, self.height = (height, width) if is_turned else (width, height)


def _number(data: bytes, at: int, size: int) -> int:
    """A big-endian number; 0 where the data ends before."""
    return int.from_bytes(data[at : at + size], "big") if at + size <= len(data) else 0
