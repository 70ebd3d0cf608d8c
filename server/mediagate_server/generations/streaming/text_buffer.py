"""Text buffer of one run, addressed by UTF-8 bytes so that readers can go on anywhere."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from mediagate_server.errors import StreamExpired

_LARGEST: Final = 256 * 1024
"""Characters of a piece; four bytes each at the most, as a message has to hold it."""


class TextChunk(Struct, frozen=True):
    """A piece of text and the sequence reached with it: the count of bytes up to its end."""

    sequence: int
    text: str


class TextBuffer:
    """Append-only. Readers keep their own position; a slow one gets what queued up in one piece."""

    def __init__(self) -> None:
        self._chunks: list[TextChunk] = []
        self.sequence = 0
        """Bytes so far."""
        self.listeners: list[Callable[[], None]] = []
        """Called whenever it has grown. They must not raise."""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(chunk.text for chunk in self._chunks)

    def since(self, sequence: int) -> str:
        """The text after a sequence that one of its chunks ended at."""
        newer = []
        for chunk in reversed(self._chunks):
            if chunk.sequence <= sequence:
                break
            newer.append(chunk.text)
        return "".join(reversed(newer))

    def append(self, text: str) -> None:
        """Add what one socket read brought."""
        if len(text) > _LARGEST:
            for at in range(0, len(text), _LARGEST):
                self.append(text[at : at + _LARGEST])
        elif text:
            self.sequence += len(text) if text.isascii() else len(text.encode())
            self._chunks.append(TextChunk(self.sequence, text))
            for grown in self.listeners:
                grown()

    def sha256(self) -> str:
        """Of all of it, in lower-case hexadecimal."""
        digest = hashlib.sha256()
        for chunk in self._chunks:
            digest.update(chunk.text.encode())
        return digest.hexdigest()

    def pieces(self) -> Iterator[str]:
        """All of it, in pieces."""
        return (chunk.text for chunk in self._chunks)

    def reader(self, after: int) -> "TextReader":
        """Reads from byte `after` on. StreamExpired where that is beyond all or within a letter."""
        return TextReader(self._chunks, after)


class TextReader:
    """One reader's position in a buffer."""

    def __init__(self, chunks: list[TextChunk], after: int) -> None:
        self._chunks = chunks
        self._next = 0
        self._after = after

    def read(self) -> TextChunk | None:
        """What is new since the last call, as one chunk; None where there is nothing.

        At most 2 MiB: of more, the next call gives the next.
        """
        chunks, begin = self._chunks, self._next
        if begin == len(chunks):
            return None
        if begin and chunks[begin - 1].sequence >= self._after:
            # Past the place to begin at, as nearly always: whole chunks, mostly one.
            self._next = begin + 1
            if self._next == len(chunks):
                return chunks[begin]
            size = len(chunks[begin].text)
            while self._next < len(chunks) and size + len(chunks[self._next].text) <= _LARGEST:
                size += len(chunks[self._next].text)
                self._next += 1
            return _joined(chunks[begin : self._next])
        pieces = list(self._pieces())
        return TextChunk(self._chunks[self._next - 1].sequence, "".join(pieces)) if pieces else None

    def check_reached(self) -> None:
        """At the end of the text: StreamExpired where `after` was never reached."""
        reached = self._chunks[-1].sequence if self._chunks else 0
        if self._after > reached:
            raise stream_expired(self._after, reached)

    def _pieces(self) -> Iterator[str]:
        size = 0
        while self._next < len(self._chunks) and size < _LARGEST:
            chunk = self._chunks[self._next]
            self._next += 1
            if chunk.sequence <= self._after:
                continue
            size += len(chunk.text)
            begins = chunk.sequence - len(chunk.text.encode())
            if begins >= self._after:
                yield chunk.text
                continue
            rest = chunk.text.encode()[self._after - begins :]
            try:
                yield rest.decode()
            except UnicodeDecodeError:
                raise stream_expired(self._after, chunk.sequence) from None


def _joined(chunks: list[TextChunk]) -> TextChunk:
    return TextChunk(chunks[-1].sequence, "".join(chunk.text for chunk in chunks))


def stream_expired(after: int, reached: int) -> StreamExpired:
    """What is told of a sequence that no stream of this text gave out."""
    return StreamExpired(
        "after_sequence is not one that this stream gave out",
        metadata={"after_sequence": str(after), "reached": str(reached)},
    )
