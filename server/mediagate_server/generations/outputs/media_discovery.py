"""Media discovery: which strings of an output are its media, whatever shape it comes in.

Models answer with a link, a list, an object, or any of these within another, and change that
between versions. A run that succeeded is paid, so its media are looked for everywhere in it.

Of a model that was run by its slug the links become media and the rest stays JSON. Which strings
are links is known from the model's schema. Where that does not say, a string at Replicate's own
delivery host is one, and so is a data URI.
"""

import json
import mimetypes
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeGuard

from msgspec import Struct

from mediagate_server.catalog.models.model import OutputKind, OutputShape
from mediagate_server.errors import Failure, Reason
from mediagate_server.media.output_archiver import UPSTREAM_LINK_LIFETIME
from mediagate_server.media_type import UNKNOWN
from mediagate_server.store.records import Generation, MissingOutput, Output, StoredMedia
from mediagate_server.upstream.documents.json_parser import parse_json
from mediagate_server.upstream.documents.media_references import (
    ANY_STEP,
    bare_media_type,
    escape_placeholder,
    is_delivery_url,
    is_link,
    is_medium,
    is_reference,
)
from mediagate_server.upstream.port import NoResponse

_REGISTERED_NAMES: Final = {"audio/x-wav": "audio/wav", "audio/x-flac": "audio/flac"}
"""Media types that Python still calls by their old names."""
_MEDIA_TYPE: Final = re.compile(r"[\w!#$&^.+-]{1,64}/[\w!#$&^.+-]{1,64}", re.ASCII)
_TYPE_KEYS: Final = ("content_type", "mime_type", "media_type", "contentType", "mimeType")
_PATH: Final = re.compile(r"\s*+[^:/?#]++://[^/?#]*+(/[^?#]*+)")
_ECHOES: Final = frozenset({"input", "inputs", "request"})
"""Members that repeat what was sent."""
_COMPANIONS: Final = re.compile(
    r"(?<![a-z])(?:thumb|preview|poster|cover|mask)", re.ASCII | re.IGNORECASE
)
"""What begins words in the names of members that go along with a medium, and are not the one asked
for.
"""
_MEDIA_WORDS: Final = frozenset(
    {
        "url", "urls", "uri", "uris", "href", "src", "link", "links", "file", "files", "path",
        "paths", "image", "images", "img", "picture", "pictures", "video", "videos", "audio",
        "audios", "output", "outputs", "result", "results", "data", "media", "content",
        "contents", "artifact", "artifacts", "sample", "samples", "frame", "frames", "b64",
        "base64",
    }
)  # fmt: skip
"""Words in the names of members that are media."""
_LONGEST_NAME: Final = 128
"""Letters of a key that is looked at; a longer one is no name."""
_LONGEST_JSON: Final = 4 * 1024 * 1024
"""Letters of a text that may be JSON."""
_MOST_ENTRIES: Final = 20_000
_KINDS: Final = frozenset({"image", "video", "audio"})


class DiscoveredMedium(Struct, frozen=True):
    """A medium in an output. `declared` is the type that stands beside it; empty: none does.

    `by_name`: the member that it was found under names a medium. `companion`: it goes along with
    another.
    """

    uri: str
    declared: str = ""
    by_name: bool = True
    companion: bool = False


def find_media(
    output: Any, shape: OutputShape, ended_at: datetime, asked: int
) -> tuple[StoredMedia | None, ...]:
    """The media in an output, in order; None stands for one that is missing at its place.

    `asked` is how many were asked for: where fewer were made, what is not there is missing at the
    end, or where a list says so. Nothing at all is found in an output without media.
    """
    if shape.kind is OutputKind.MEDIA_FIELD and isinstance(output, Mapping):
        in_field = _of(output.get(shape.field), shape, ended_at, asked)
        if in_field:
            return in_field
    return _of(output, shape, ended_at, asked)


def _of(
    output: Any, shape: OutputShape, ended_at: datetime, asked: int
) -> tuple[StoredMedia | None, ...]:
    slots = _slots(_unpacked(output))
    # Of several kinds of places those that are meant: a page about the run is no output.
    meant = [one is not None and (one.by_name or is_delivery_url(one.uri)) for one in slots]
    is_sure = any(meant)
    main: list[StoredMedia | None] = []
    companions: list[StoredMedia] = []
    for one, is_meant in zip(slots, meant, strict=True):
        if one is None:
            main.append(None)
        elif is_meant or not is_sure:
            expected = UNKNOWN if one.companion else shape.media_type
            medium = to_medium(one.uri, expected, ended_at, one.declared)
            (companions if one.companion else main).append(medium)
    kind = shape.media_type.partition("/")[0]
    if any(one is not None and is_of_kind(one, kind) for one in main):
        companions += [one for one in main if one is not None and not is_of_kind(one, kind)]
        main = [one for one in main if one is None or is_of_kind(one, kind)]
    if not any(main):
        return tuple(companions)
    return (*_padded(main, asked), *companions)


def _padded(found: list[StoredMedia | None], asked: int) -> tuple[StoredMedia | None, ...]:
    """As many places as were asked for, or as there are media."""
    made = sum(one is not None for one in found)
    surplus = len(found) - max(asked, made)
    kept: list[StoredMedia | None] = []
    for one in reversed(found):
        if one is None and surplus > 0:
            surplus -= 1  # It was no place of a medium: words beside it, or its seed.
        else:
            kept.append(one)
    kept.reverse()
    return (*kept, *[None] * (asked - len(kept)))


def _unpacked(output: Any) -> Any:
    """What a text that is JSON says; else the output as it is.

    Such JSON has the bounds of any other that is decoded here; beyond them a text is words.
    """
    if not isinstance(output, str) or len(output) > _LONGEST_JSON:
        return output
    if output.lstrip()[:1] not in ("[", "{"):
        return output
    if sum(map(output.count, ",[{")) > _MOST_ENTRIES:
        return output
    try:
        return parse_json(output.encode(errors="replace"))
    except NoResponse:
        return output


def _slots(value: Any) -> list[DiscoveredMedium | None]:
    """The media within a value; None for an item of a list that should be one and is none."""
    search = _MediaSearch()
    search.visit(value, DiscoveredMedium(""), None)
    return search.slots


class _MediaSearch:
    """A walk through a value, each part of which is looked at once, however deep it lies.

    `context` is what the objects around a value say of a medium there. `seen`: the media of the
    outermost object; one that is there under several names is one. Answered is whether there is a
    medium, seen before or not.
    """

    def __init__(self) -> None:
        self.slots: list[DiscoveredMedium | None] = []

    def visit(self, value: Any, context: DiscoveredMedium, seen: set[str] | None) -> bool:
        if isinstance(value, str) and (uri := _uri_of(value)):
            if seen is None or uri not in seen:
                found = DiscoveredMedium(uri, context.declared, context.by_name, context.companion)
                self.slots.append(found)
            if seen is not None:
                seen.add(uri)
            return True
        if isinstance(value, list):
            return self._visit_items(value, context, seen)
        if isinstance(value, Mapping):
            return self._visit_members(value, context, set() if seen is None else seen)
        self.slots.append(None)
        return False

    def _visit_items(
        self, items: list[Any], context: DiscoveredMedium, seen: set[str] | None
    ) -> bool:
        is_any = False
        for item in items:
            before = len(self.slots)
            is_there = self.visit(item, context, seen)
            if not is_there and len(self.slots) == before:
                self.slots.append(None)
            is_any = is_any or is_there
        return is_any

    def _visit_members(
        self, value: Mapping[str, Any], context: DiscoveredMedium, seen: set[str]
    ) -> bool:
        words = (value.get(key) for key in _TYPE_KEYS)
        declared = next((word for word in words if _is_type(word)), context.declared)
        echoes = {key for key in value if len(key) <= _LONGEST_NAME and key.lower() in _ECHOES}
        others = [key for key in value if key not in echoes]
        for keys in (others, [key for key in value if key in echoes]):
            is_any = False
            for key in keys:
                is_any |= self._visit_member(key, value[key], declared, context, seen)
            if is_any:
                return True
        return False

    def _visit_member(
        self, key: str, inner: Any, declared: str, context: DiscoveredMedium, seen: set[str]
    ) -> bool:
        if not inner or not isinstance(inner, str | list | Mapping):
            return False
        is_name = len(key) <= _LONGEST_NAME
        companion = is_name and _is_companion(key)
        by_name = companion or (is_name and not _MEDIA_WORDS.isdisjoint(key.lower().split("_")))
        before = len(self.slots)
        within = DiscoveredMedium(
            "", declared, context.by_name and by_name, context.companion or companion
        )
        is_there = self.visit(inner, within, seen)
        if not is_there:
            # A member that is no medium is something else; an item of a list of media is not.
            del self.slots[before:]
        return is_there


def _uri_of(text: str) -> str:
    """The link or data URI that a string is; a file in bare base64 as a data URI; else empty."""
    if bare := bare_media_type(text):
        return f"data:{bare};base64,{''.join(text.split())}"
    return text if is_medium(text) else ""


def _is_companion(key: str) -> bool:
    return _COMPANIONS.search(key) is not None


def _is_type(word: object) -> TypeGuard[str]:
    return isinstance(word, str) and _MEDIA_TYPE.fullmatch(word) is not None


def to_medium(uri: str, expected: str, ended_at: datetime, declared: str = "") -> StoredMedia:
    """One link of an output, with the media type that its name tells, or that stands beside it,
    else the expected one.
    """
    if uri[:5].lower() == "data:":
        stated = uri[5:].split(",", 1)[0].split(";", 1)[0]
        return StoredMedia(uri, stated if _MEDIA_TYPE.fullmatch(stated) else declared or expected)
    path = _PATH.match(uri)
    name = path[1].rpartition("/")[2] if path else ""
    suffix = name[-_LONGEST_NAME:].partition(".")[2]
    guessed = _type_by_suffix(suffix) if suffix else None
    media_type = guessed or declared or expected
    return StoredMedia(uri, media_type, ended_at + UPSTREAM_LINK_LIFETIME)


@lru_cache(maxsize=128)
def _type_by_suffix(suffix: str) -> str | None:
    guessed, _ = mimetypes.guess_type(f"/file.{suffix}")
    return _REGISTERED_NAMES.get(guessed or "", guessed)


def is_of_kind(medium: StoredMedia, kind: str) -> bool:
    """Whether a medium is of a kind (image, video, audio), as far as is known of its type."""
    return kind not in _KINDS or medium.media_type.partition("/")[0] in (kind, "")


def count_of_kind(media: Sequence[StoredMedia], kind: str) -> int:
    """How many of the media that are there a price by the output goes by."""
    there = [one for one in media if one.uri or one.is_stored]
    return sum(is_of_kind(one, kind) for one in there) or len(there)


def main_output_index(media: Sequence[StoredMedia], kind: str) -> int:
    """Which of several media is the one asked for: the first of its kind, else the first."""
    return next((at for at, one in enumerate(media) if is_of_kind(one, kind)), 0)


def fill_missing(found: Sequence[StoredMedia | None], failure: Failure) -> tuple[StoredMedia, ...]:
    """The media with one that has no link, and `failure`, in each place that is empty."""
    gap = StoredMedia("", "", failure=failure)
    return tuple(one or gap for one in found)


def missing_outputs(record: Generation, output: Output | None) -> tuple[MissingOutput, ...]:
    """What is missing of a record's outputs: what was so before, and what is lost among these."""
    known = {one.index for one in record.missing}
    lost = (
        MissingOutput(index, one.failure)
        for index, one in enumerate(output.media if output else ())
        if index not in known and one.failure and one.failure.reason is Reason.OUTPUT_LOST
    )
    return tuple(sorted((*record.missing, *lost), key=lambda one: one.index))


_DEEPEST: Final = 24
"""Levels of JSON that a message can carry: parsers of protobuf stop at 100 levels of theirs, and
one of JSON takes three. What lies deeper becomes its JSON as a text."""
_LARGEST_INTEGER: Final = 2**53
"""The message has doubles alone; up to here they hold every integer."""


def extract_media(
    output: Any, paths: Sequence[Sequence[str]], media_type: str, ended_at: datetime
) -> Output:
    """The output with `media:N` in place of each link, and the media, in order.

    `paths` are where links are: keys, and ANY_STEP for every item or property; words that stand
    there are words. A string of the model's own that reads like a place is marked as such: see
    `escape_placeholder`. What a message
    cannot say stands in the value as a text; then all of it is in `exact_json`, too.
    """
    media: list[StoredMedia] = []

    def with_paths(value: Any, paths: list[Sequence[str]]) -> Any:
        if isinstance(value, str):
            is_there = any(not path for path in paths)
            if (is_there and is_link(value)) or is_reference(value):
                media.append(to_medium(value, media_type, ended_at))
                return f"media:{len(media) - 1}"
            return escape_placeholder(value)
        if isinstance(value, list):
            return [with_paths(item, _within(paths, ANY_STEP)) for item in value]
        if isinstance(value, dict):
            return {key: with_paths(item, _within(paths, key)) for key, item in value.items()}
        return value

    lifted = with_paths(output, list(paths))
    return to_output(lifted, tuple(media))


def to_output(lifted: Any, media: tuple[StoredMedia, ...]) -> Output:
    """An output whose links are lifted out already."""
    if _is_exact(lifted, 0):
        return Output(value=lifted, media=media)
    return Output(
        value=_as_carried(lifted, 0),
        media=media,
        exact_json=json.dumps(lifted, ensure_ascii=False),
    )


def _is_exact(value: Any, depth: int) -> bool:
    """Whether a message can carry the value as it is."""
    if type(value) is int:
        return abs(value) <= _LARGEST_INTEGER
    if not isinstance(value, list | dict):
        return True
    inner = value if isinstance(value, list) else value.values()
    return depth < _DEEPEST and all(_is_exact(item, depth + 1) for item in inner)


def _as_carried(value: Any, depth: int) -> Any:
    """The value as a message can carry it."""
    if type(value) is int:
        return value if abs(value) <= _LARGEST_INTEGER else str(value)
    if isinstance(value, list | dict) and depth == _DEEPEST:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return [_as_carried(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {key: _as_carried(item, depth + 1) for key, item in value.items()}
    return value


def _within(paths: Sequence[Sequence[str]], step: str) -> list[Sequence[str]]:
    return [path[1:] for path in paths if path and path[0] in (step, ANY_STEP)]
