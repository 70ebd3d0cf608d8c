"""Extraction of large values from response files, for worker processes.

A text is written as UTF-8, whatever shape it came in; any other value as its JSON, with `media:N`
in replacement of its media; media that come as long data URIs are written to files, too. Memory is
bounded by windows, except for a text that is neither a string nor a list of strings: that value is
decoded, and bounded by the memory limit of a worker.
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

from mediagate_server.upstream.documents.json_member_filter import map_file
from mediagate_server.upstream.documents.json_skip_scanner import Data
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
"""Largest value without its media that is returned, in bytes."""
_MAX_MEDIA: Final = 20_000
"""As many as a response that is decoded directly can have."""
_MAX_LINK_BYTES: Final = 1024 * 1024
"""Bytes of all links, and of all data URIs that are kept inline."""
_STRING: Final = re.compile(rb'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_BETWEEN: Final = re.compile(rb"[ \t\r\n]*+([,\]])[ \t\r\n]*+")
_PIECE: Final = re.compile(rb'(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u]){1,262144}+', re.DOTALL)
_SURROGATE: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}$")


def extract_text(payload: bytes) -> bytes:
    """Write a text: a string, a list of strings, or the text found in another value.

    `payload` and the result are JSON. Returns {"size": bytes, "prefix": whether the file begins
    with a text of that SHA-256}, or {} where the value is no text.
    """
    args = json.loads(payload)
    begin, end = args["begin"], args["end"]
    with map_file(Path(args["path"])) as data, _create(args["target"]) as target:
        try:
            try:
                written = _write_pieces(_texts(data, begin, end), target, args)
            except _UnusualShape:
                target.seek(0)
                target.truncate()
                written = _write_pieces(_find_text(data, begin, end), target, args)
        except ValueError:
            return b"{}"
        target.flush()
        os.fsync(target.fileno())
    return json.dumps(written).encode()


def _write_pieces(
    pieces: Iterator[bytes], target: BinaryIO, args: dict[str, Any]
) -> dict[str, Any]:
    count, left, digest = 0, args["prefix_size"], hashlib.sha256()
    for piece in pieces:
        target.write(piece)
        count += len(piece)
        if left > 0:
            digest.update(piece[:left])
            left -= len(piece)
    has_prefix = left <= 0 and digest.hexdigest() == args["prefix_sha256"]
    return {"size": count, "prefix": has_prefix}


def extract_json(payload: bytes) -> bytes:
    """Write any value as JSON, with `media:N` in replacement of its media.

    Returns {"size": bytes, "media": [...]}: of each its {"uri"}, or {"file": the suffix of its file
    name, "uri": the beginning of its data URI}; an empty suffix: it cannot be read.
    """
    args = json.loads(payload)
    with map_file(Path(args["path"])) as data, _create(args["target"]) as target:
        extracted = _ExtractedMedia(data, args, args["target"])
        count = sum(map(target.write, extracted.pieces()))
        target.flush()
        os.fsync(target.fileno())
    return json.dumps({"size": count, "media": extracted.media}).encode()


def outline_media(payload: bytes) -> bytes:
    """Outline the media: what `extract_json` would write, where that is small, and no files.

    Returns {"count": number of media, "value": JSON text or null, "media": [...] as there}.
    """
    args = json.loads(payload)
    with map_file(Path(args["path"])) as data:
        extracted = _ExtractedMedia(data, args)
        pieces: list[bytes] | None = []
        size = 0
        for piece in extracted.pieces():
            size += len(piece)
            if pieces is not None:
                pieces.append(piece)
                if size > MAX_OUTLINE_BYTES:
                    pieces = None
    value = None if pieces is None else b"".join(pieces).decode("utf-8", "replace")
    media = [] if value is None else extracted.media
    return json.dumps({"count": extracted.count, "value": value, "media": media}).encode()


class _ExtractedMedia:
    """Extracted media of a value, up to a limit. Empty `target`: nothing is written."""

    def __init__(self, data: Data, args: dict[str, Any], target: str = "") -> None:
        self._data = data
        self._args = args
        self._target = target
        self._links = self._uris = self.count = 0
        self.media: list[dict[str, str]] = []

    def pieces(self) -> Iterator[bytes]:
        """The JSON of the value with placeholders for its media, in pieces."""
        data, args = self._data, self._args
        begin, end = args["begin"], args["end"]
        references = find_references(
            data,
            begin,
            end,
            args["media"],
            anywhere=args["anywhere"],
            is_match=is_medium if args["typed"] else is_link,
        )
        escaped = ((at, at) for at in find_placeholder_text(data, begin, end))
        for first, last in heapq.merge(references, escaped):
            if first == last:
                replacement = PLACEHOLDER_ESCAPE.encode()
            elif (index := self._add(first, last)) is not None:
                replacement = b"media:%d" % index
            else:
                continue
            yield from _windows(data, begin, first)
            yield replacement
            begin = last
        yield from _windows(data, begin, end)

    def _add(self, begin: int, end: int) -> int | None:
        """Add a medium; its index, or None where it stays in the value."""
        head = decode_prefix(self._data, begin, end)
        is_data = head[:5].lower() == "data:"
        bare = "" if is_data or not self._args["typed"] else bare_media_type(head)
        size, index = end - begin, self.count
        if index >= _MAX_MEDIA:
            return None
        if not is_data and not bare:
            if size > MAX_LINK_CHARACTERS or self._links + size > _MAX_LINK_BYTES:
                return None
            self._links += size
            self.media.append({"uri": decode_string(self._data[begin:end])})
        elif is_data and size <= MAX_LINK_CHARACTERS and self._uris + size <= _MAX_LINK_BYTES:
            self._uris += size
            self.media.append({"uri": decode_string(self._data[begin:end])})
        else:
            start = f"data:{bare};base64," if bare else head[:200].partition(",")[0] + ","
            pieces = _decode_literal(self._data, begin, end)
            if bare:
                pieces = chain([start.encode()], (b"".join(piece.split()) for piece in pieces))
            self.media.append({"uri": start, "file": self._write(index, pieces)})
        self.count += 1
        return index

    def _write(self, index: int, pieces: Iterator[bytes]) -> str:
        """Write a data URI to a file; returns the suffix of its name, empty where it is broken."""
        name = f".{index}"
        if not self._target:
            return name
        with Path(self._target + name).open("xb") as file:
            return name if write_data_uri(pieces, file) else ""


def write_data_uri(pieces: Iterator[bytes], file: BinaryIO) -> bool:
    """Decode a data URI, given as UTF-8, into a file. False where it is broken."""
    first = next(pieces, b"")
    head, comma, rest = first.partition(b",")
    if not comma:
        return False
    is_base64 = head.lower().endswith(b";base64")
    try:
        while True:
            following = next(pieces, None)
            plain, rest = _percent_decode(rest, is_last=following is None)
            if is_base64:
                length = len(plain) if following is None else len(plain) // 4 * 4
                file.write(binascii.a2b_base64(plain[:length], strict_mode=True))
                rest = plain[length:] + rest
            else:
                file.write(plain)
            if following is None:
                return True
            rest += following
    except ValueError:
        return False


def _percent_decode(text: bytes, *, is_last: bool) -> tuple[bytes, bytes]:
    """Percent-decode; returns the text, and an incomplete escape at its end."""
    if b"%" not in text:
        return text, b""
    cut = len(text) if is_last else max(text.rfind(b"%", -2), -1)
    cut = len(text) if cut < 0 else cut
    return unquote_to_bytes(text[:cut]), text[cut:]


def _windows(data: Data, begin: int, end: int) -> Iterator[bytes]:
    return (data[at : min(at + _WINDOW, end)] for at in range(begin, end, _WINDOW))


def _create(path: str) -> BinaryIO:
    return Path(path).open("xb")


def _find_text(data: Data, begin: int, end: int) -> Iterator[bytes]:
    """The text in a value of another shape, as UTF-8. Raises ValueError where there is none."""
    text = find_text(json.loads(data[begin:end], strict=False))
    if text is None:
        raise ValueError
    for at in range(0, len(text), _WINDOW):
        piece = text[at : at + _WINDOW]
        yield piece.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


class _UnusualShape(Exception):
    """The value is neither a string nor a list of strings."""


def _texts(data: Data, begin: int, end: int) -> Iterator[bytes]:
    """Decode a string or a list of strings as UTF-8. Raises _UnusualShape, even after a part."""
    if data[begin : begin + 1] == b'"':
        yield from _decode_literal(data, begin + 1, end - 1)
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
        match = _STRING.match(data, position, end)
        if match is None:
            raise _UnusualShape
        if match.end() - match.start() > _WINDOW:
            yield _join_literals(joined)
            joined, size = [], 0
            yield from _decode_literal(data, match.start() + 1, match.end() - 1)
        else:
            joined.append(match[1])
            size += len(match[1])
            if size > _WINDOW or len(joined) > 100_000:
                yield _join_literals(joined)
                joined, size = [], 0
        between = _BETWEEN.match(data, match.end(), end)
        if between is None:
            raise _UnusualShape
        if between[1] == b"]":
            yield _join_literals(joined)
            return
        position = between.end()


_BLANK: Final = re.compile(rb"[ \t\r\n]*+")


def _decode_literal(data: Data, begin: int, end: int) -> Iterator[bytes]:
    """Decode a string literal, in pieces."""
    at = begin
    while at < end:
        match = _PIECE.match(data, at, end)
        piece = match[0] if match else data[at:end]
        if at + len(piece) < end:
            piece = _SURROGATE.sub(b"", piece) or piece  # Its other half begins the next.
            while len(piece) > 4 and data[at + len(piece)] & 0xC0 == 0x80:
                piece = piece[:-1]  # Within a letter.
        yield _join_literals([piece])
        at += len(piece)


def _join_literals(literals: list[bytes]) -> bytes:
    """Join string literals, without their quotes, to one text."""
    text = json.loads('"' + b"".join(literals).decode("utf-8", "replace") + '"', strict=False)
    plain: str = text
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
