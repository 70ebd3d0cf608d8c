"""HTTP content decoding (gzip, deflate), as a stream and in bounded chunks.

The server requests `identity`; some servers encode all the same, and object stores keep a file
encoded that was uploaded so. The body is then not the file.
"""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

_CHUNK_BYTES: Final = 64 * 1024
"""Decompressed chunk size: a few bytes may expand a thousandfold. The reader limits the total, as
of any body."""
_CHUNKS_PER_TURN: Final = 16
"""Chunks between two turns of the event loop: decompression may never wait for the network, and a
timeout only works where something waits."""
_FREE_BYTES: Final = 64 * 1024
_MAX_INPUT_PER_OUTPUT_BYTE: Final = 8
_MEMBER_COST: Final = 1024
"""Limit on compressed input: _FREE_BYTES, and _MAX_INPUT_PER_OUTPUT_BYTE for each byte that comes
out; a gzip member counts for _MEMBER_COST. So a limit on the output also bounds the input, of each
of several codings; a writer that flushes each byte stays below."""
_MAX_PADDING: Final = 64 * 1024
"""Bytes read behind the end, so that the connection can be reused."""
_MAX_CODINGS: Final = 3
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_SUPPORTED_CODINGS: Final = _GZIP | {"deflate"}
_NO_CODINGS: Final = frozenset(
    {"", "identity", "none", "aws-chunked", "binary", "8bit", "utf-8", "utf8"}
)
"""Values that servers send without encoding the body; `aws-chunked` is of storages that forget to
remove it."""
_GZIP_MAGIC: Final = b"\x1f\x8b"


class UndecodableContent(Exception):
    """The body does not match its Content-Encoding, or the coding is not supported."""


class TruncatedContent(UndecodableContent):
    """The body ends before its encoded content does."""


def decode_content(
    chunks: AsyncIterator[bytes], content_encoding: str | None
) -> AsyncIterator[bytes]:
    """Decode a body. Raises UndecodableContent, also while it is read."""
    codings = _codings(content_encoding)
    if len(codings) > _MAX_CODINGS:
        raise UndecodableContent("it is encoded too many times")
    for coding in reversed(codings):  # Listed in the order in which they were applied.
        if coding not in _SUPPORTED_CODINGS:
            raise UndecodableContent("it is encoded in a way that was not asked for")
        chunks = _decompress(chunks, coding)
    return chunks


def is_encoded(content_encoding: str | None) -> bool:
    """Whether the body is encoded, so that its length is not the file's."""
    return bool(_codings(content_encoding))


def _codings(content_encoding: str | None) -> list[str]:
    named = re.split(r"[\s,]+", (content_encoding or "").lower())
    return [coding for coding in named if coding not in _NO_CODINGS]


async def _decompress(chunks: AsyncIterator[bytes], coding: str) -> AsyncIterator[bytes]:
    decompressor: _Decompressor | None = None
    head = b""
    async for chunk in chunks:
        data = chunk
        if decompressor is None:
            head += chunk
            if len(head) < len(_GZIP_MAGIC):
                continue
            decompressor, data = _Decompressor(coding, head), head
        for piece in decompressor.pieces(data):
            if piece:
                yield piece
            await decompressor.after_piece()
        if decompressor.padding > _MAX_PADDING:
            return
    if decompressor is None:
        if head:
            yield head
    elif not decompressor.is_complete:
        raise TruncatedContent("it breaks off")


class _Decompressor:
    """Decompressor of one coding of one body, created from its first bytes."""

    def __init__(self, coding: str, head: bytes) -> None:
        self._is_gzip = coding in _GZIP
        if self._is_gzip:
            # Declared as gzip, but without its magic number: the file itself.
            self._wbits = zlib.MAX_WBITS | 16 if head.startswith(_GZIP_MAGIC) else 0
        else:
            # zlib format by the RFC, raw deflate by many servers.
            framed = head[0] & 0x0F == zlib.DEFLATED and int.from_bytes(head[:2], "big") % 31 == 0
            self._wbits = zlib.MAX_WBITS if framed else -zlib.MAX_WBITS
        self._current = self._new_decompressor()
        self.padding = 0
        """Bytes behind the end."""
        self._read = 0
        self._written = 0
        self._pieces = 0

    def _new_decompressor(self) -> "zlib._Decompress | None":
        return zlib.decompressobj(wbits=self._wbits) if self._wbits else None

    @property
    def is_complete(self) -> bool:
        """Whether every member that has begun has ended."""
        return self._current is None or self._current.eof

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Decompressed chunks of the next bytes; some may be empty."""
        if self._current is None:
            yield data
            return
        is_full = False
        while data or is_full:
            if self._current.eof and not self._starts_member(data):
                self.padding += len(data)
                return
            try:
                plain = self._current.decompress(data, _CHUNK_BYTES)
            except zlib.error:
                raise UndecodableContent("it cannot be decoded") from None
            is_full = len(plain) == _CHUNK_BYTES and not self._current.eof
            rest = self._current.unconsumed_tail or self._current.unused_data
            self._count(len(data) - len(rest), len(plain))
            data = rest
            yield plain

    async def after_piece(self) -> None:
        """Yield to the event loop, every so often."""
        self._pieces += 1
        if self._pieces % _CHUNKS_PER_TURN == 0:
            await asyncio.sleep(0)

    def _count(self, read: int, written: int) -> None:
        self._read += read
        self._written += written
        if self._read > _FREE_BYTES + _MAX_INPUT_PER_OUTPUT_BYTE * self._written:
            raise UndecodableContent("next to nothing is in it for its length")

    def _starts_member(self, data: bytes) -> bool:
        """Start a gzip file's next member, if there is one. Other bytes at the end are padding."""
        if self.padding or not (self._is_gzip and data.startswith(_GZIP_MAGIC[:1])):
            return False
        self._count(_MEMBER_COST, 0)
        self._current = zlib.decompressobj(wbits=self._wbits)
        return True
