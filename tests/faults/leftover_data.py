"""Where bytes of what was asked and made are left: in every file of a server's, and in a bucket."""

from __future__ import annotations

import base64
import hashlib
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from .sample_requests import MARK

STEP, LENGTH = 1_024, 24
"""So far apart are the samples of a content that are searched for, and so long."""
_KEY = re.compile(r"<Key>([^<]+)</Key>")
_NEXT = re.compile(r"<NextContinuationToken>([^<]+)</NextContinuationToken>")
_SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=an-id/20261125/us-east-1/s3/aws4_request"}
_SEALED = ("pending", "checkpoints", "requests")


@dataclass(frozen=True)
class Bucket:
    """A bucket of moto's, which asks for a signature and looks at none."""

    url: str

    def files(self) -> dict[str, bytes]:
        """All that is in it, by name."""
        contents: dict[str, bytes] = {}
        with httpx.Client(timeout=30, headers=_SIGNED) as client:
            more: dict[str, str] = {"list-type": "2"}
            while True:
                page = client.get(self.url, params=more).raise_for_status().text
                for key in _KEY.findall(page):
                    contents[key] = client.get(f"{self.url}/{key}").raise_for_status().content
                if not (following := _NEXT.findall(page)):
                    return contents
                more["continuation-token"] = following[0]

    def half_done(self) -> list[str]:
        """Uploads in parts that were never ended: their parts lie there, and are paid for."""
        page = httpx.get(f"{self.url}?uploads").raise_for_status().text
        return _KEY.findall(page)


def forms_of_the_mark() -> list[bytes]:
    """The mark as it is, and as it may stand in base64, whatever is before it."""
    mark = MARK.encode()
    encoded = [base64.b64encode(b"x" * before + mark) for before in range(3)]
    return [mark, mark.hex().encode(), *(each[4:-4] for each in encoded), mark[::-1]]


def files_below(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, by its path in there. What goes away meanwhile is left out."""
    contents = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            with suppress(FileNotFoundError):
                contents[str(file.relative_to(folder))] = file.read_bytes()
    return contents


def samples(contents: Iterable[bytes]) -> set[bytes]:
    """Pieces of contents, none of which is so plain that it may stand anywhere."""
    needles = set()
    for content in contents:
        for start in range(64, len(content) - LENGTH, STEP):
            piece = content[start : start + LENGTH]
            if len(set(piece)) > LENGTH // 2:
                needles.add(piece)
    return needles


def traces(files: dict[str, bytes], needles: Iterable[bytes]) -> list[str]:
    """Which files hold which of the needles."""
    return [
        f"{name} at {content.index(needle)}: {needle[:40]!r}"
        for name, content in files.items()
        for needle in needles
        if needle in content
    ]


def digests(files: dict[str, bytes]) -> set[str]:
    """SHA-256 of each, in lower-case hexadecimal."""
    return {hashlib.sha256(content).hexdigest() for content in files.values()}


def sealed(data: Path) -> list[bytes]:
    """What the store keeps sealed of what was asked and said: nobody can search within it."""
    with closing(sqlite3.connect(f"file:{data / 'mediagate.sqlite3'}?mode=ro", uri=True)) as file:
        return [
            blob
            for table in _SEALED
            for (blob,) in file.execute(f"SELECT sealed FROM {table}").fetchall()  # noqa: S608
        ]
