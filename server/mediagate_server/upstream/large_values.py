"""Large values: parts of a response that stay in a file until they are extracted."""

from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct


class ValueUnreadable(Exception):
    """A large value has another type, or reading it took too much time or memory."""


class TextFile(Struct, frozen=True):
    """A text in a file: `size` in bytes of UTF-8. `has_prefix`: it begins as expected."""

    size: int
    has_prefix: bool


class ExtractedMedium(Struct, frozen=True):
    """A medium in a value: a link or a short data URI; of a long one `uri` is the beginning, up to
    its comma, and `file` its content. `is_broken`: it could not be read. `is_file`: it belongs into
    a file of its own.
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
    """Where media are in a value: `paths` of keys and steps (`media_references.py`); `anywhere`:
    also every other string that looks like one. `typed`: the value is the output of a media model,
    where broken data URIs, and base64 without a head, are media too.
    """

    paths: tuple[tuple[str | int, ...], ...]
    anywhere: bool
    typed: bool = False


class MediaOutline(Struct, frozen=True):
    """Number of media in a value, and the value as JSON with `media:N` for each; None: it is too
    large. `media` are as in JsonFile, but nothing is written to files.
    """

    count: int
    value: str | None
    media: tuple[ExtractedMedium, ...]


class LargeValueExtractor(Protocol):
    """Extracts large values from response files. `LargeValue` says what the methods do."""

    async def write_text(
        self, value: "LargeValue", target: Path, prefix_size: int, prefix_sha256: str
    ) -> TextFile:
        """Write a text as UTF-8."""
        ...

    async def write_json(
        self, value: "LargeValue", target: Path, locations: MediaLocations
    ) -> JsonFile:
        """Write any value as JSON, its media extracted."""
        ...

    async def outline_media(self, value: "LargeValue", locations: MediaLocations) -> MediaOutline:
        """The media of a value, and the rest of it."""
        ...


class LargeValue:
    """A JSON value of a response that is too large to be decoded, and stays in its file.

    `is_too_large`: the response is over the limit of outputs. The file is deleted with the last
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
        is_too_large: bool = False,
    ) -> None:
        self.file = file
        self.begin = begin
        self.end = end
        self.entries = entries
        self.is_too_large = is_too_large
        self._extract = extract

    async def write_text(self, target: Path, *, prefix_size: int, prefix_sha256: str) -> TextFile:
        """Write a text as UTF-8 into a new file; a list of texts as one. Raises ValueUnreadable.

        Raises OSError where the disk fails, which says nothing of the value. The result says
        whether the text begins with so many bytes of that SHA-256.
        """
        return await self._extract.write_text(self, target, prefix_size, prefix_sha256)

    async def write_json(self, target: Path, locations: MediaLocations) -> JsonFile:
        """Write the value as JSON into a new file, its media extracted; long data URIs into files
        beside it, whose names begin with the target's. Raises as `write_text` does.
        """
        return await self._extract.write_json(self, target, locations)

    async def outline_media(self, locations: MediaLocations) -> MediaOutline:
        """The media that `write_json` would extract, and the rest. Raises as `write_text` does."""
        return await self._extract.outline_media(self, locations)
