"""Large values of an answer written to files of their own, for worker processes.

A text is written as UTF-8, whether it came as a string or as a list of pieces; any other value as
the JSON that it is, with `media:N` in place of the links in it. Memory is bounded by windows, not
by the value.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from mediagate_server.replicate.json_reduction import mapped
from mediagate_server.replicate.json_scan import Data

_WINDOW: Final = 1024 * 1024
_MOST_LINKS: Final = 1_000
_LONGEST_LINK: Final = 8_192
_STRING: Final = re.compile(rb'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_BETWEEN: Final = re.compile(rb"[ \t\r\n]*+([,\]])[ \t\r\n]*+")
_PIECE: Final = re.compile(rb'(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u]){1,262144}+', re.DOTALL)
_SURROGATE: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}$")
_LINK: Final = re.compile(
    rb'(?<!\\)"(https://(?:[A-Za-z0-9-]+\.)*replicate\.delivery/[!#-\[\]-~]*)"(?!\s*:)'
)


def write_text(payload: bytes) -> bytes:
    """Write a text: a string, or a list of them. `payload` and the answer are JSON.

    Answers {"size": bytes, "prefix": whether the file begins with a text of that SHA-256},
    or nothing where the value is no text.
    """
    order = json.loads(payload)
    count, left, digest = 0, order["prefix_size"], hashlib.sha256()
    with mapped(Path(order["path"])) as data, _created(order["target"]) as target:
        try:
            for piece in _texts(data, order["begin"], order["end"]):
                target.write(piece)
                count += len(piece)
                if left > 0:
                    digest.update(piece[:left])
                    left -= len(piece)
        except ValueError:
            return b"{}"
        target.flush()
        os.fsync(target.fileno())
    prefix = left <= 0 and digest.hexdigest() == order["prefix_sha256"]
    return json.dumps({"size": count, "prefix": prefix}).encode()


def write_json(payload: bytes) -> bytes:
    """Write any value as the JSON that it is. Answers {"size": bytes, "links": [...]}."""
    order = json.loads(payload)
    links: list[str] = []

    def lifted(found: "re.Match[bytes]") -> bytes:
        if len(links) >= _MOST_LINKS or len(found[1]) > _LONGEST_LINK:
            return found[0]
        links.append(found[1].decode("ascii"))
        return b'"media:%d"' % (len(links) - 1)

    count = 0
    with mapped(Path(order["path"])) as data, _created(order["target"]) as target:
        for window in _windows(data, order["begin"], order["end"]):
            piece = _LINK.sub(lifted, window) if order["lift"] else window
            count += target.write(piece)
        target.flush()
        os.fsync(target.fileno())
    return json.dumps({"size": count, "links": links}).encode()


def _created(path: str) -> BinaryIO:
    return Path(path).open("xb")


def _windows(data: Data, begin: int, end: int) -> Iterator[bytes]:
    """The bytes, cut where no link can be: behind a comma or a bracket, if there is one."""
    at = begin
    while at < end:
        window = data[at : min(at + _WINDOW, end)]
        if at + len(window) < end:
            cut = max(window.rfind(mark, -2 * _LONGEST_LINK) for mark in (b'",', b'"]', b'"}'))
            if cut > 0:
                window = window[: cut + 1]
        yield window
        at += len(window)


def _texts(data: Data, begin: int, end: int) -> Iterator[bytes]:
    """The text as UTF-8. ValueError where the value is neither a string nor a list of them."""
    if data[begin : begin + 1] == b'"':
        yield from _decoded(data, begin + 1, end - 1)
        return
    if data[begin : begin + 1] != b"[":
        raise ValueError
    at = _BLANK.match(data, begin + 1)
    position = at.end() if at else begin + 1
    if data[position : position + 1] == b"]":
        return
    joined: list[bytes] = []
    size = 0
    while True:
        found = _STRING.match(data, position, end)
        if found is None:
            raise ValueError
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
            raise ValueError
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
