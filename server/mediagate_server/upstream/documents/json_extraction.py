"""Large values of an answer written to files of their own, for worker processes.

A text is written as UTF-8, whatever shape it came in; any other value as the JSON that it is, with
`media:N` in place of the media in it; those that come as long data URIs are written to files, too.
Memory is bounded by windows, not by the value, but for a text that is neither a string nor a list
of strings: that value is decoded, and bounded by what a worker may have.
"""

import binascii
import hashlib
import heapq
import json
import os
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import unquote_to_bytes

from mediagate_server.upstream.documents.json_reduction import map_file
from mediagate_server.upstream.documents.json_scanner import Data
from mediagate_server.upstream.documents.media_references import (
    MAX_LINK_CHARACTERS,
    PLACEHOLDER_ESCAPE,
    bare_media_type,
    decode_prefix,
    decode_string,
    find_placeholder_text,
    find_references,
    is_link,
    is_medium,
)
from mediagate_server.upstream.documents.output_text import find_text

_WINDOW: Final = 1024 * 1024
MAX_OUTLINE_BYTES: Final = 4 * 1024 * 1024
"""Bytes of a value without its media that is looked at as a whole."""
_MOST_MEDIA: Final = 20_000
"""As many as there can be in what is decoded where it arrives."""
_MOST_OF_LINKS: Final = 1024 * 1024
"""Bytes of all links, and of all data URIs that stay such."""
_STRING: Final = re.compile(rb'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_BETWEEN: Final = re.compile(rb"[ \t\r\n]*+([,\]])[ \t\r\n]*+")
_PIECE: Final = re.compile(rb'(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u]){1,262144}+', re.DOTALL)
_SURROGATE: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}$")


def extract_text(payload: bytes) -> bytes:
    """Write a text: a string, a list of them, or what is found in another value. `payload` and the
    answer are JSON.

    Answers {"size": bytes, "prefix": whether the file begins with a text of that SHA-256},
    or nothing where the value is no text.
    """
    order = json.loads(payload)
    begin, end = order["begin"], order["end"]
    with map_file(Path(order["path"])) as data, _created(order["target"]) as target:
        try:
            try:
                written = _write_pieces(_texts(data, begin, end), target, order)
            except _UnusualShape:
                target.seek(0)
                target.truncate()
                written = _write_pieces(_found_text(data, begin, end), target, order)
        except ValueError:
            return b"{}"
        target.flush()
        os.fsync(target.fileno())
    return json.dumps(written).encode()


def _write_pieces(
    pieces: Iterator[bytes], target: BinaryIO, order: dict[str, Any]
) -> dict[str, Any]:
    count, left, digest = 0, order["prefix_size"], hashlib.sha256()
    for piece in pieces:
        target.write(piece)
        count += len(piece)
        if left > 0:
            digest.update(piece[:left])
            left -= len(piece)
    begins_so = left <= 0 and digest.hexdigest() == order["prefix_sha256"]
    return {"size": count, "prefix": begins_so}


def extract_json(payload: bytes) -> bytes:
    """Write any value as JSON, with `media:N` in place of the media in it.

    Answers {"size": bytes, "media": [...]}: of each its {"uri"}, or {"file": its name behind the
    target's, "uri": the beginning of its data URI}; an empty name: it cannot be read.
    """
    order = json.loads(payload)
    with map_file(Path(order["path"])) as data, _created(order["target"]) as target:
        lifted = _ExtractedMedia(data, order, order["target"])
        count = sum(map(target.write, lifted.pieces()))
        target.flush()
        os.fsync(target.fileno())
    return json.dumps({"size": count, "media": lifted.media}).encode()


def outline_media(payload: bytes) -> bytes:
    """What `extract_json` would write, where that is small, and no file of it.

    Answers {"count": number of media, "value": JSON text or null, "media": [...] as there}.
    """
    order = json.loads(payload)
    with map_file(Path(order["path"])) as data:
        lifted = _ExtractedMedia(data, order)
        kept: list[bytes] | None = []
        size = 0
        for piece in lifted.pieces():
            size += len(piece)
            if kept is not None:
                kept.append(piece)
                if size > MAX_OUTLINE_BYTES:
                    kept = None
    value = None if kept is None else b"".join(kept).decode("utf-8", "replace")
    media = [] if value is None else lifted.media
    return json.dumps({"count": lifted.count, "value": value, "media": media}).encode()


class _ExtractedMedia:
    """The media of a value, as many as are kept of any; `target` empty: nothing is written."""

    def __init__(self, data: Data, order: dict[str, Any], target: str = "") -> None:
        self._data = data
        self._order = order
        self._target = target
        self._links = self._uris = self.count = 0
        self.media: list[dict[str, str]] = []

    def pieces(self) -> Iterator[bytes]:
        """The value with the places of its media in it, in pieces."""
        data, order = self._data, self._order
        begin, end = order["begin"], order["end"]
        found = find_references(
            data,
            begin,
            end,
            order["media"],
            anywhere=order["anywhere"],
            is_one=is_medium if order["typed"] else is_link,
        )
        own = ((at, at) for at in find_placeholder_text(data, begin, end))
        for first, last in heapq.merge(found, own):
            if first == last:
                place = PLACEHOLDER_ESCAPE.encode()
            elif (index := self._add(first, last)) is not None:
                place = b"media:%d" % index
            else:
                continue
            yield from _windows(data, begin, first)
            yield place
            begin = last
        yield from _windows(data, begin, end)

    def _add(self, begin: int, end: int) -> int | None:
        """Its index; None: it stays where it is."""
        head = decode_prefix(self._data, begin, end)
        is_data = head[:5].lower() == "data:"
        bare = "" if is_data or not self._order["typed"] else bare_media_type(head)
        size, index = end - begin, self.count
        if index >= _MOST_MEDIA:
            return None
        if not is_data and not bare:
            if size > MAX_LINK_CHARACTERS or self._links + size > _MOST_OF_LINKS:
                return None
            self._links += size
            self.media.append({"uri": decode_string(self._data[begin:end])})
        elif is_data and size <= MAX_LINK_CHARACTERS and self._uris + size <= _MOST_OF_LINKS:
            self._uris += size
            self.media.append({"uri": decode_string(self._data[begin:end])})
        else:
            start = f"data:{bare};base64," if bare else head[:200].partition(",")[0] + ","
            pieces = _decoded(self._data, begin, end)
            if bare:
                pieces = chain([start.encode()], (b"".join(one.split()) for one in pieces))
            self.media.append({"uri": start, "file": self._write(index, pieces)})
        self.count += 1
        return index

    def _write(self, index: int, pieces: Iterator[bytes]) -> str:
        """The name of the file with what is in a data URI; empty where that cannot be read."""
        name = f".{index}"
        if not self._target:
            return name
        with Path(self._target + name).open("xb") as file:
            return name if write_data_uri(pieces, file) else ""


def write_data_uri(pieces: Iterator[bytes], file: BinaryIO) -> bool:
    """Write the medium within a data URI, given as UTF-8. False where it cannot be read."""
    begun = next(pieces, b"")
    head, comma, rest = begun.partition(b",")
    if not comma:
        return False
    is_base64 = head.lower().endswith(b";base64")
    try:
        while True:
            following = next(pieces, None)
            plain, rest = _unquoted(rest, is_last=following is None)
            if is_base64:
                whole = len(plain) if following is None else len(plain) // 4 * 4
                file.write(binascii.a2b_base64(plain[:whole], strict_mode=True))
                rest = plain[whole:] + rest
            else:
                file.write(plain)
            if following is None:
                return True
            rest += following
    except ValueError:
        return False


def _unquoted(text: bytes, *, is_last: bool) -> tuple[bytes, bytes]:
    """The text without percent signs, and what may be half of one at its end."""
    if b"%" not in text:
        return text, b""
    cut = len(text) if is_last else max(text.rfind(b"%", -2), -1)
    cut = len(text) if cut < 0 else cut
    return unquote_to_bytes(text[:cut]), text[cut:]


def _windows(data: Data, begin: int, end: int) -> Iterator[bytes]:
    return (data[at : min(at + _WINDOW, end)] for at in range(begin, end, _WINDOW))


def _created(path: str) -> BinaryIO:
    return Path(path).open("xb")


def _found_text(data: Data, begin: int, end: int) -> Iterator[bytes]:
    """The text in a value of another shape, as UTF-8. ValueError where there is none."""
    text = find_text(json.loads(data[begin:end], strict=False))
    if text is None:
        raise ValueError
    for at in range(0, len(text), _WINDOW):
        piece = text[at : at + _WINDOW]
        yield piece.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


class _UnusualShape(Exception):
    """It is neither a string nor a list of them."""


def _texts(data: Data, begin: int, end: int) -> Iterator[bytes]:
    """A string or a list of them as UTF-8. _UnusualShape, perhaps after some of it."""
    if data[begin : begin + 1] == b'"':
        yield from _decoded(data, begin + 1, end - 1)
        return
    if data[begin : begin + 1] != b"[":
        raise _UnusualShape
    at = _BLANK.match(data, begin + 1)
    position = at.end() if at else begin + 1
    if data[position : position + 1] == b"]":
        return
    joined: list[bytes] = []
    size = 0
    while True:
        found = _STRING.match(data, position, end)
        if found is None:
            raise _UnusualShape
        if found.end() - found.start() > _WINDOW:
            yield _joined(joined)
            joined, size = [], 0
            yield from _decoded(data, found.start() + 1, found.end() - 1)
        else:
            joined.append(found[1])
            size += len(found[1])
            if size > _WINDOW or len(joined) > 100_000:
                yield _joined(joined)
                joined, size = [], 0
        between = _BETWEEN.match(data, found.end(), end)
        if between is None:
            raise _UnusualShape
        if between[1] == b"]":
            yield _joined(joined)
            return
        position = between.end()


_BLANK: Final = re.compile(rb"[ \t\r\n]*+")


def _decoded(data: Data, begin: int, end: int) -> Iterator[bytes]:
    """What stands within quotes, a piece at a time."""
    at = begin
    while at < end:
        found = _PIECE.match(data, at, end)
        piece = found[0] if found else data[at:end]
        if at + len(piece) < end:
            piece = _SURROGATE.sub(b"", piece) or piece  # Its other half begins the next.
            while len(piece) > 4 and data[at + len(piece)] & 0xC0 == 0x80:
                piece = piece[:-1]  # Within a letter.
        yield _joined([piece])
        at += len(piece)


def _joined(literals: list[bytes]) -> bytes:
    """Several strings, without their quotes, as one text."""
    text = json.loads('"' + b"".join(literals).decode("utf-8", "replace") + '"', strict=False)
    plain: str = text
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
