"""Large values of a response: where they lie in its file, and how they are extracted."""

from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct


class ValueUnreadable(Exception):
    """A large value is none of its kind, or reading it took too much time or memory."""


class TextFile(Struct, frozen=True):
    """A text in a file: `size` in bytes of UTF-8. `begins_so`: as it was expected to begin."""

    size: int
    begins_so: bool


class ExtractedMedium(Struct, frozen=True):
    """A medium in a value: a link or a short data URI; of a long one `uri` is the beginning, up to
    its comma, and `file` what was in it. `is_broken`: it could not be read. `is_file`: it is to be
    in a file of its own.
    """

    uri: str
    file: Path | None = None
    is_broken: bool = False
    is_file: bool = False


class JsonFile(Struct, frozen=True):
    """A value as JSON in a file: `size` in bytes, and the media that `media:N` stands for in it."""

    size: int
    media: tuple[ExtractedMedium, ...]


class MediaLocations(Struct, frozen=True):
    """Where media are in a value: `paths` of keys and steps, see `media_references.py`; `anywhere`:
    what looks like one is one in every other place, too. `typed`: it is the output of a model of
    media, where also a broken data URI is one, and one without its head.
    """

    paths: tuple[tuple[str | int, ...], ...]
    anywhere: bool
    typed: bool = False


class MediaOutline(Struct, frozen=True):
    """How many media there are in a value, and the value as JSON with `media:N` for each; None: it
    is too large for that. `media` are as in JsonFile, but that nothing lies in files.
    """

    count: int
    value: str | None
    media: tuple[ExtractedMedium, ...]


class LargeValueExtractor(Protocol):
    """Reads large values: see LargeValue."""

    async def write_text(
        self, value: "LargeValue", target: Path, prefix_size: int, prefix_sha256: str
    ) -> TextFile:
        """See LargeValue."""
        ...

    async def write_json(
        self, value: "LargeValue", target: Path, places: MediaLocations
    ) -> JsonFile:
        """See LargeValue."""
        ...

    async def outline_media(self, value: "LargeValue", places: MediaLocations) -> MediaOutline:
        """See LargeValue."""
        ...


class LargeValue:
    """A value of an answer that is too large to be decoded: it lies in a file, as JSON.

    `is_over`: the answer is larger than what is kept of any. The file goes with the last
    reference to it.
    """

    def __init__(
        self,
        file: Any,
        begin: int,
        end: int,
        entries: int,
        extract: LargeValueExtractor,
        *,
        is_over: bool = False,
    ) -> None:
        self.file = file
        self.begin = begin
        self.end = end
        self.entries = entries
        self.is_over = is_over
        self._extract = extract

    async def write_text(self, target: Path, *, prefix_size: int, prefix_sha256: str) -> TextFile:
        """Write it as UTF-8 into a new file; a list of texts as one. Raises ValueUnreadable.

        OSError where the disk does not take it, which says nothing of the value. The answer tells
        whether it begins with so many bytes of that SHA-256.
        """
        return await self._extract.write_text(self, target, prefix_size, prefix_sha256)

    async def write_json(self, target: Path, places: MediaLocations) -> JsonFile:
        """Write it as it is into a new file, with its media lifted out; long data URIs into files
        beside it, whose names begin with the target's. Likewise.
        """
        return await self._extract.write_json(self, target, places)

    async def outline_media(self, places: MediaLocations) -> MediaOutline:
        """The media that `write_json` would lift out, and what is left. Likewise."""
        return await self._extract.outline_media(self, places)
