"""Cassette file format: JSON lines, appended as they happen, with media beside them by hash.

The first line is the head: `{"cassette": 1, "upstream": "https://api.replicate.com"}`, 1 being the
version of the format. Each other line is one entry of a `kind`:

    exchange  a request and its response; `links` are the output files that the response names
    event     one server-sent event (or comment) of a stream
    webhook   a webhook that upstream posted
    file      the download of an output file

`at` and `took` are seconds, `at` since the recording began. A body is a text, `{"sha256", "size"}`
of a file in the folder beside the cassette, or a list of both.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

VERSION: Final = 1
_LONG_RUN = re.compile(r'[^\s"\\]{4096,}')
"""What is kept beside the file even within a text: inline files, in base64."""

Body = str | dict[str, Any] | list[Any]
"""Body of an entry: a text, a reference to a media file, or a list of them."""


class CassetteError(ValueError):
    """A cassette that cannot be used; the message is one line that names the file."""


@dataclass(frozen=True, slots=True)
class MediaFile:
    """File in the folder beside a cassette."""

    path: Path
    sha256: str
    size: int

    @property
    def body(self) -> dict[str, Any]:
        """Reference to it, as the body of an entry."""
        return {"sha256": self.sha256, "size": self.size}


class MediaFolder:
    """Folder of media beside a cassette; each file has its SHA-256 as its name."""

    def __init__(self, cassette: Path) -> None:
        """The folder of `cassette`; it is made with the first file."""
        self._folder = cassette.with_name(cassette.name + ".media")

    def partial_path(self, name: str) -> Path:
        """Path to write a file to before its hash is known."""
        self._folder.mkdir(exist_ok=True)
        return self._folder / f".{name}.part"

    def adopt(self, written: Path, sha256: str, size: int) -> MediaFile:
        """Move a written file to its place."""
        path = self._folder / sha256
        written.replace(path)
        return MediaFile(path, sha256, size)

    def store(self, content: bytes) -> MediaFile:
        """Store bytes, once."""
        sha256 = hashlib.sha256(content).hexdigest()
        if not (self._folder / sha256).exists():
            partial = self.partial_path(f"{sha256}-{os.getpid()}")
            partial.write_bytes(content)
            self.adopt(partial, sha256, len(content))
        return MediaFile(self._folder / sha256, sha256, len(content))

    def find(self, body: Mapping[str, Any]) -> MediaFile:
        """Find a file by its reference."""
        return MediaFile(self._folder / body["sha256"], body["sha256"], body["size"])

    def check(self, reference: Mapping[str, Any]) -> None:
        """Check that a file is there and whole. Raises CassetteError."""
        file = self.find(reference)
        try:
            with file.path.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise CassetteError(f"its file {file.path.name} cannot be read: {error}") from None
        if digest != file.sha256:
            raise CassetteError(f"its file {file.path.name} is damaged")

    def encode(self, content: bytes) -> Body:
        """Encode bytes as the body of an entry; what is no text, or long, goes into a file."""
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return self.store(content).body
        parts: list[Any] = []
        end = 0
        for run in _LONG_RUN.finditer(text):
            parts += [text[end : run.start()], self.store(run.group().encode()).body]
            end = run.end()
        return [*parts, text[end:]] if parts else text

    def decode(self, body: Body) -> bytes:
        """Decode the body of an entry."""
        match body:
            case str():
                return body.encode()
            case list():
                return b"".join(self.decode(each) for each in body)
            case _:
                return self.find(body).path.read_bytes()


class CassetteWriter:
    """Appends entries to a cassette; each is one write, so that a killed process loses at most
    the last.
    """

    def __init__(self, path: Path, upstream: str) -> None:
        """Create the cassette, or go on with one of the same upstream.

        Raises CassetteError if it is none, OSError if it cannot be opened.
        """
        self.media = MediaFolder(path)
        self.begins_at = 0.0
        """Seconds that the entries that are there already take."""
        exists = path.exists() and path.stat().st_size > 0
        if exists:
            head, entries, whole = read_entries(path)
            if head["upstream"] != upstream:
                raise CassetteError(
                    f"{path} is a recording of {head['upstream']}; record to another file"
                )
            os.truncate(path, whole)
            self.begins_at = max((e["at"] + e.get("took", 0.0) for e in entries), default=0.0)
        self._file = path.open("ab", buffering=0)
        if not exists:
            self.append({"cassette": VERSION, "upstream": upstream})

    def append(self, entry: Mapping[str, Any]) -> None:
        """Append one line. Raises OSError, and for ever after: half a line must stay the last."""
        line = orjson.dumps(entry) + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError("the disk took only a part of a line")
        except OSError:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether entries can be appended."""
        return not self._file.closed

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_entries(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
    """Read a cassette: its head, its entries, and how many bytes of it are whole lines.

    What follows the last line break is the rest of a process that was killed, and is left out.
    Raises CassetteError, in one line, for a file that is damaged or of another version.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CassetteError(f"{path}: {error.strerror}") from None
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].splitlines()
    head = _parse_line(lines[0]) if lines else None
    if head is None or not isinstance(head.get("cassette"), int):
        raise CassetteError(f"{path} is not a cassette: it has no head")
    if head["cassette"] != VERSION:
        raise CassetteError(
            f"{path} is a cassette of version {head['cassette']}; "
            f"this Mediagate reads version {VERSION}"
        )
    if not isinstance(head.get("upstream"), str):
        raise CassetteError(f"{path}: line 1 names no upstream")
    entries = []
    for number, line in enumerate(lines[1:], 2):
        entry = _parse_line(line)
        if entry is None or not _is_entry(entry):
            raise CassetteError(f"{path}: line {number} is damaged")
        entries.append(entry)
    return head, entries, whole


def references_in(body: Any) -> Iterable[dict[str, Any]]:
    """Iterate over the references to media files in a body."""
    if isinstance(body, dict):
        yield body
    elif isinstance(body, list):
        for each in body:
            yield from references_in(each)


def _parse_line(line: bytes) -> dict[str, Any] | None:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def _is_entry(entry: Mapping[str, Any]) -> bool:
    """Whether it has what an entry of its kind needs."""
    match entry:
        case {
            "kind": "exchange",
            "took": float() | int(),
            "request": {"method": str(), "target": str(), "headers": dict(), "body": _},
            "response": dict() as response,
            "links": list(),
        }:
            known = _is_response(response)
        case {"kind": "event", "stream": str(), "body": body, "links": list()}:
            known = _is_body(body)
        case {"kind": "webhook", "id": str(), "run": str(), "body": body, "links": list()}:
            known = _is_body(body)
        case {"kind": "file", "url": str()}:
            known = _is_response(entry)
        case _:
            known = False
    return known and isinstance(entry.get("at"), int | float)


def _is_response(response: Mapping[str, Any]) -> bool:
    return (
        isinstance(response.get("status"), int)
        and isinstance(response.get("headers"), dict)
        and _is_body(response.get("body"))
    )


def _is_body(body: Any) -> bool:
    match body:
        case str():
            return True
        case list():
            return all(_is_body(each) for each in body)
        case {"sha256": str() as sha256, "size": int()}:
            return re.fullmatch("[0-9a-f]{64}", sha256) is not None
        case _:
            return False
