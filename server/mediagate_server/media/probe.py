"""Media probe: media type, pixel size and duration, read from the file itself.

Images by `imagesize`, audio by `tinytag`, videos by our own header parsers: none of them decodes
anything, and all read through a `BoundedFile`, so that a broken or hostile file costs a few
thousand reads and 2 MiB at the most.
"""

import codecs
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

import imagesize
import structlog
import tinytag

from mediagate_server.media import mp4, webm
from mediagate_server.media.bounded_reader import BoundedFile, ReadLimitReached
from mediagate_server.media_type import UNKNOWN, contradicts, sniff

_log = structlog.get_logger()

_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,63}/[a-z0-9!#$&^_.+-]{1,63}")
_MEDIA_PREFIXES: Final = ("image/", "video/", "audio/")
_SVG: Final = "image/svg+xml"
_PROLOG: Final = re.compile(
    rb"(?:\s++|<\?.*?\?>|<!--.*?-->|<!doctype(?!\s++(?:[\w.-]++:)?svg\b)[^>\[]*+>)*+", re.DOTALL
)
"""XML prolog: declarations, comments and document type."""
_SVG_ROOT: Final = re.compile(rb"<(?:!doctype\s++)?(?:[\w.-]++:)?svg(?![\w.:-])")
_UNENDED_PROLOG: Final = re.compile(rb"<\?|<!--|$")
_MARKUP: Final = re.compile(rb"<[a-z!?/]|\{\s*[\"}]|\[\s*[\"{\[\]]")
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_TEXT_TYPE: Final = re.compile(r"text/.*|application/(?:.*\+)?(?:json|xml)|application/xhtml.*")
_MAX_SIDE: Final = 1_000_000
_MAX_DURATION: Final = 1e8
_OGG_ENDS: Final = 512 * 1024
"""Bytes read at both ends of an Ogg file: its pages are 64 KiB at most."""

_VIDEO_READERS: Final[dict[str, Callable[[BoundedFile], mp4.VideoHeader]]] = {
    "video/mp4": mp4.read_mp4_header,
    "video/quicktime": mp4.read_mp4_header,
    "audio/mp4": mp4.read_mp4_header,
    "video/webm": webm.read_webm_header,
}


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Probe result: pixels and seconds; None where they are not known or there are none."""

    width: int | None = None
    height: int | None = None
    seconds: float | None = None


def detect_media_type(head: bytes, *declared: str) -> str:
    """Media type by the file's first bytes, else the first declared type, else unknown.

    A declared type that the bytes contradict does not count.
    """
    media_type = sniff(head)
    if media_type != UNKNOWN:
        return media_type
    otherwise = _SVG if _is_svg(head) else UNKNOWN
    return next(
        (word for word in _declared_types(declared) if not contradicts(head, word)), otherwise
    )


def is_damaged(head: bytes, *declared: str) -> bool:
    """Whether a file is certainly not of its declared type, nor of any other known one."""
    return contradicts(head, next(_declared_types(declared), UNKNOWN)) and not _is_svg(head)


def is_error_page(head: bytes, declared: str, expected: str) -> bool:
    """Whether a file that should be a medium is an error page: HTML, XML or JSON, or any text that
    is declared as one. SVG images are XML, too: they are recognised by their root, and where that
    is out of sight by their type.
    """
    if not expected.startswith(_MEDIA_PREFIXES) or sniff(head) != UNKNOWN:
        return False
    begin, root = _xml(head)
    types = {_parse_media_type(expected), _parse_media_type(declared)}
    if _SVG_ROOT.match(root) or (
        begin.startswith(b"<") and _UNENDED_PROLOG.match(root) and _SVG in types
    ):
        return False
    if _MARKUP.match(begin):
        return True
    is_text = not _CONTROLS.search(head)
    return is_text and any(_TEXT_TYPE.fullmatch(media_type) for media_type in types)


def _is_svg(head: bytes) -> bool:
    return bool(_SVG_ROOT.match(_xml(head)[1]))


def _xml(head: bytes) -> tuple[bytes, bytes]:
    """The beginning in lower case, and what of it is behind the XML prolog: mostly the root."""
    begin = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    prolog = _PROLOG.match(begin)
    return begin, begin[prolog.end() if prolog else 0 :]


def probe_file(path: Path, media_type: str) -> ProbeResult:
    """Probe a file. Empty where it cannot be parsed: a model may output anything.

    Reads the disk: not for the event loop.
    """
    try:
        with path.open("rb") as file:
            return _probe(BoundedFile(file), media_type)
    except ReadLimitReached:
        _log.info("media_header_not_found", media_type=media_type)
        return ProbeResult()
    except Exception as error:  # noqa: BLE001 - whatever a parser raises, the file is stored
        _log.info("media_probe_failed", media_type=media_type, error=type(error).__name__)
        return ProbeResult()


def probe_task(payload: bytes) -> bytes:
    """Worker task `[path, media type]` -> `[width, height, seconds]`: `probe_file`."""
    path, media_type = json.loads(payload)
    probed = probe_file(Path(path), media_type)
    return json.dumps([probed.width, probed.height, probed.seconds]).encode()


def _probe(file: BoundedFile, media_type: str) -> ProbeResult:
    if read := _VIDEO_READERS.get(media_type):
        movie = read(file)
        width, height = _valid_size(movie.width, movie.height)
        return ProbeResult(width, height, _valid_duration(movie.seconds))
    if media_type.startswith("image/"):
        return ProbeResult(*_valid_size(*imagesize.get(file)))
    if media_type.startswith("audio/"):
        content = _ogg_ends(file) if media_type == "audio/ogg" else file
        sound = tinytag.TinyTag.get(file_obj=cast("BinaryIO", content), tags=False, image=False)
        return ProbeResult(seconds=_valid_duration(sound.duration))
    return ProbeResult()


def _ogg_ends(file: BoundedFile) -> BoundedFile | io.BytesIO:
    """A long Ogg file without its middle, cut at pages: the first and the last ones have it all.

    The library reads each page, of which an hour of audio has tens of thousands.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size <= 2 * _OGG_ENDS:
        return file
    head = file.read(_OGG_ENDS)
    file.seek(size - _OGG_ENDS)
    tail = file.read(_OGG_ENDS)
    return io.BytesIO(head[: max(head.rfind(b"OggS"), 0)] + tail[max(tail.find(b"OggS"), 0) :])


def _valid_size(width: int | None, height: int | None) -> tuple[int, int] | tuple[None, None]:
    """Both sides, where they are plausible."""
    if width and height and 0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE:
        return width, height
    return None, None


def _valid_duration(seconds: float | None) -> float | None:
    """Seconds, where they are plausible."""
    return seconds if seconds and 0 < seconds <= _MAX_DURATION else None


def _declared_types(declared: Iterable[str]) -> Iterator[str]:
    return (plain for word in declared if (plain := _parse_media_type(word)))


def _parse_media_type(declared: str) -> str:
    """A declared type without its parameters, in lower case; empty where it is unknown."""
    plain = declared.split(";", 1)[0].strip().lower()
    return plain if _TYPE.fullmatch(plain) and plain != UNKNOWN else ""
