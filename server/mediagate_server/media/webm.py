"""WebM header parser: size and duration of WebM and Matroska files (RFC 8794, RFC 9559 elements).

Only the segment's information and its tracks are read; clusters are skipped.
"""

import struct
from collections.abc import Iterator
from typing import Final

from mediagate_server.media.bounded_reader import BoundedFile
from mediagate_server.media.mp4 import VideoHeader

_MAX_ELEMENTS: Final = 10_000
_MAX_DEPTH: Final = 8
_VALUE_BYTES: Final = 8
_SEGMENT, _INFO, _TRACKS = 0x18538067, 0x1549A966, 0x1654AE6B
_TRACK, _VIDEO = 0xAE, 0xE0
_TIMESTAMP_SCALE, _DURATION = 0x2AD7B1, 0x4489
_WIDTH, _HEIGHT = 0xB0, 0xBA
_CONTAINER_IDS: Final = frozenset({_SEGMENT, _INFO, _TRACKS, _TRACK, _VIDEO})
_VALUE_IDS: Final = frozenset({_TIMESTAMP_SCALE, _DURATION, _WIDTH, _HEIGHT})
_DEFAULT_SCALE: Final = 1_000_000
"""Default timestamp scale in nanoseconds."""


def read_webm_header(file: BoundedFile) -> VideoHeader:
    """Parse a file's headers; empty for a file of another format."""
    end = file.seek(0, 2)
    reader = _ElementReader(file)
    reader.walk(0, end)
    values = reader.values
    scale = int.from_bytes(values.get(_TIMESTAMP_SCALE, b""), "big") or _DEFAULT_SCALE
    units = _float(values.get(_DURATION, b""))
    return VideoHeader(
        units * scale / 1e9 if units else None,
        int.from_bytes(values.get(_WIDTH, b""), "big") or None,
        int.from_bytes(values.get(_HEIGHT, b""), "big") or None,
    )


class _ElementReader:
    """Parser of one file's elements, with the first value of each known one."""

    def __init__(self, file: BoundedFile) -> None:
        self._file = file
        self._elements_left = _MAX_ELEMENTS
        self.values: dict[int, bytes] = {}

    def walk(self, start: int, end: int, depth: int = 0) -> None:
        """Read the elements from `start` to `end`."""
        for kind, at, until in self._elements(start, end):
            if kind in _CONTAINER_IDS and depth < _MAX_DEPTH:
                self.walk(at, until, depth + 1)
            elif kind in _VALUE_IDS and until - at <= _VALUE_BYTES:
                self._file.seek(at)
                self.values.setdefault(kind, self._file.read(until - at))

    def _elements(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Each element's id, and the range of its content. Stops at a truncated one."""
        while start < end and self._elements_left > 0:
            self._elements_left -= 1
            self._file.seek(start)
            header = self._file.read(12)
            id_length = _vint_length(header, 4)
            size_length = _vint_length(header[id_length:], 8)
            if not (id_length and size_length):
                return
            kind = int.from_bytes(header[:id_length], "big")
            size = int.from_bytes(header[id_length : id_length + size_length], "big")
            size -= 1 << (7 * size_length)  # Without the length marker bit.
            content = start + id_length + size_length
            if size == (1 << (7 * size_length)) - 1:
                size = end - content  # Unknown size, as of live recordings: to the end.
            if content + size > end:
                # A truncated recording has a segment longer than the file.
                size = end - content
            yield kind, content, content + size
            start = content + size


def _vint_length(data: bytes, maximum: int) -> int:
    """Length in bytes of a variable-size integer, by the leading zero bits of its first; 0:
    none.
    """
    if not data or not data[0]:
        return 0
    length = 9 - data[0].bit_length()
    return length if length <= min(maximum, len(data)) else 0


def _float(data: bytes) -> float:
    """A float of 4 or 8 bytes; 0 where it is neither, or no finite number over 0."""
    if len(data) not in (4, 8):
        return 0.0
    value: float = struct.unpack(">f" if len(data) == 4 else ">d", data)[0]
    return value if 0 < value < 1e15 else 0.0
