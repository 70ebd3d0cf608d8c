"""Media discovery: which strings of a typed output are the media, whatever shape it comes in.

Models answer with a link, a list, an object, or any of these within another, and change that
between versions. A run that succeeded is paid, so what it made is looked for everywhere in it.
"""

import json
import mimetypes
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeGuard
from urllib.parse import urlsplit

from msgspec import Struct

from mediagate_server.catalog.plan import OutputKind, OutputShape
from mediagate_server.errors import Failure, Reason
from mediagate_server.media_type import UNKNOWN
from mediagate_server.outputs.keeping import LINK_LIFE
from mediagate_server.replicate.media_references import bare_media_type, is_delivered, is_medium
from mediagate_server.store.records import Generation, MissingOutput, Output, StoredMedia

_REGISTERED_NAMES: Final = {"audio/x-wav": "audio/wav", "audio/x-flac": "audio/flac"}
"""Media types that Python still calls by their old names."""
_MEDIA_TYPE: Final = re.compile(r"[\w!#$&^.+-]{1,64}/[\w!#$&^.+-]{1,64}", re.ASCII)
_TYPE_KEYS: Final = ("content_type", "mime_type", "media_type", "contentType", "mimeType")
_ECHOES: Final = frozenset({"input", "inputs", "request"})
"""Members that repeat what was sent."""
_COMPANIONS: Final = ("thumb", "preview", "poster", "cover", "mask")
"""What begins the names of members that go along with a medium, and are not the one asked for."""
_MEDIA_KEYS: Final = re.compile(
    r"(?:.*_)?(?:ur[li]s?|href|src|links?|files?|paths?|images?|img|pictures?|videos?|audios?|audio_out"
    r"|outputs?|results?|data|media|contents?|artifacts?|samples?|frames?|b64_json|base64)(?:_.*)?",
    re.IGNORECASE,
)
_KINDS: Final = frozenset({"image", "video", "audio"})
_UNNAMED: Final = re.compile(r"[^a-z]+")


class FoundMedium(Struct, frozen=True):
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
    is_sure = any(one is not None and (one.by_name or is_delivered(one.uri)) for one in slots)
    main: list[StoredMedia | None] = []
    companions: list[StoredMedia] = []
    for one in slots:
        if one is None:
            main.append(None)
        elif one.by_name or not is_sure or is_delivered(one.uri):
            expected = UNKNOWN if one.companion else shape.media_type
            medium = medium_of(one.uri, expected, ended_at, one.declared)
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
    while len(found) > max(asked, made):
        # It was no place of a medium: words beside it, or its seed.
        del found[max(at for at, one in enumerate(found) if one is None)]
    return (*found, *[None] * (asked - len(found)))


def _unpacked(output: Any) -> Any:
    """What a text that is JSON says; else the output as it is."""
    if not isinstance(output, str) or output.lstrip()[:1] not in ("[", "{"):
        return output
    try:
        return json.loads(output)
    except (ValueError, RecursionError):
        return output


def _slots(value: Any) -> list[FoundMedium | None]:
    """The media within a value; None for an item of a list that should be one and is none."""
    if isinstance(value, str):
        uri = _uri_of(value)
        return [FoundMedium(uri)] if uri else [None]
    if isinstance(value, list):
        return [slot for item in value for slot in _slots(item) or (None,)]
    if isinstance(value, Mapping):
        return list(_in_members(value))
    return [None]


def _in_members(value: Mapping[str, Any]) -> Iterator[FoundMedium | None]:
    words = (value.get(key) for key in _TYPE_KEYS)
    declared = next((word for word in words if _is_type(word)), "")
    members = [(key, _slots(inner), inner) for key, inner in value.items()]
    is_echo = [key.lower() in _ECHOES for key, _, _ in members]
    has_others = any(
        any(slots) and not echo for (_, slots, _), echo in zip(members, is_echo, strict=True)
    )
    seen: set[str] = set()
    for (key, slots, inner), echo in zip(members, is_echo, strict=True):
        if echo and has_others:
            continue
        for slot in slots:
            if slot is None:
                # A member that is no medium is something else; an item of a list of media is not.
                if isinstance(inner, list) and any(slots):
                    yield None
            elif slot.uri not in seen:
                seen.add(slot.uri)
                companion = _is_companion(key)
                yield FoundMedium(
                    slot.uri,
                    slot.declared or declared,
                    slot.by_name and (companion or _MEDIA_KEYS.fullmatch(key) is not None),
                    slot.companion or companion,
                )


def _uri_of(text: str) -> str:
    """The link or data URI that a string is; a file in bare base64 as a data URI; else empty."""
    if bare := bare_media_type(text):
        return f"data:{bare};base64,{''.join(text.split())}"
    return text if is_medium(text) else ""


def _is_companion(key: str) -> bool:
    return any(word.startswith(_COMPANIONS) for word in _UNNAMED.split(key.lower()))


def _is_type(word: object) -> TypeGuard[str]:
    return isinstance(word, str) and _MEDIA_TYPE.fullmatch(word) is not None


def medium_of(uri: str, expected: str, ended_at: datetime, declared: str = "") -> StoredMedia:
    """One link of an output, with the media type that its name tells, or that stands beside it,
    else the expected one.
    """
    if uri[:5].lower() == "data:":
        stated = uri[5:].split(",", 1)[0].split(";", 1)[0]
        return StoredMedia(uri, stated if _MEDIA_TYPE.fullmatch(stated) else declared or expected)
    try:
        guessed, _ = mimetypes.guess_type(urlsplit(uri).path)
    except ValueError:
        guessed = None  # No address at all, which is found out where it is fetched.
    media_type = _REGISTERED_NAMES.get(guessed or "", guessed) or declared or expected
    return StoredMedia(uri, media_type, ended_at + LINK_LIFE)


def is_of_kind(medium: StoredMedia, kind: str) -> bool:
    """Whether a medium is of a kind (image, video, audio), as far as is known of its type."""
    return kind not in _KINDS or medium.media_type.partition("/")[0] in (kind, "")


def count_of_kind(media: Sequence[StoredMedia], kind: str) -> int:
    """How many of the media that are there a price by the output goes by."""
    there = [one for one in media if one.uri or one.kept]
    return sum(is_of_kind(one, kind) for one in there) or len(there)


def main_index(media: Sequence[StoredMedia], kind: str) -> int:
    """Which of several media is the one asked for: the first of its kind, else the first."""
    return next((at for at, one in enumerate(media) if is_of_kind(one, kind)), 0)


def with_gaps(found: Sequence[StoredMedia | None], failure: Failure) -> tuple[StoredMedia, ...]:
    """The media with one that has no link, and `failure`, in each place that is empty."""
    gap = StoredMedia("", "", failure=failure)
    return tuple(one or gap for one in found)


def missing_in(record: Generation, output: Output | None) -> tuple[MissingOutput, ...]:
    """What is missing of a record's outputs: what was so before, and what is lost among these."""
    known = {one.index for one in record.missing}
    lost = (
        MissingOutput(index, one.failure)
        for index, one in enumerate(output.media if output else ())
        if index not in known and one.failure and one.failure.reason is Reason.OUTPUT_LOST
    )
    return tuple(sorted((*record.missing, *lost), key=lambda one: one.index))
