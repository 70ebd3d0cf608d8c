"""Media references in a JSON value: which strings are links to media or media themselves.

For worker processes: a large value is scanned for its strings and never decoded. A small one is
decoded where it arrives; what counts as a reference is the same (`is_reference`).
"""

import binascii
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from urllib.parse import unquote, urlsplit

from mediagate_server.media_type import UNKNOWN, sniff
from mediagate_server.upstream.documents.json_scanner import Data, MalformedJson

ANY_STEP: Final = "*"
"""In a path: any item or any member."""
ITEM_STEP: Final = 0
"""In a path: any item of a list."""
MAX_LINK_CHARACTERS: Final = 256 * 1024

PathStep = str | int
Paths = Sequence[Sequence[PathStep]]

_DELIVERY: Final = "replicate.delivery"
_DELIVERED: Final = re.compile(r"https://(?:[a-z0-9-]++\.)??replicate\.delivery/")
"""Nearly all of them, recognised for a tenth of what it costs to take a URL apart."""
_BUCKET_HOST: Final = "storage.googleapis.com"
_BUCKET_PATH: Final = "/replicate-files/"
_MOST_DECODINGS: Final = 4
PLACEHOLDER_ESCAPE: Final = "text:"
"""Before a string of a model's own that reads like the place of a medium."""
_PLACE: Final = re.compile(r"(?:text:)*media:[0-9]+")
_PLAIN: Final = re.compile(
    rb'(?<!\\)"(?=[mt]|\\u00[67])((?:[a-z0-9:]|\\u[0-9a-fA-F]{4})++)"(?![ \t\r\n]*+:)'
)
"""A string, and no key, that may read like a place."""
_LINK: Final = re.compile(r"\s*+(?i:[a-z][a-z0-9+.-]*+)://[^\s/?#]\S*+\s*+|(?i:data):[^,\s]*+,")
_BLANK: Final = re.compile(r"\s")
_LONGEST_HEAD: Final = 128
_BASE64_HEAD: Final = 64
_BASE64: Final = re.compile(rf"[A-Za-z0-9+/]{{{_BASE64_HEAD}}}")
_HEAD: Final = 1_024
_SHORTEST: Final = len("data:;base64,")
_LONGEST_KEY: Final = 1_024
_TOKEN: Final = re.compile(rb'"((?:[^"\\]++|\\.)*+)"(?:[ \t\r\n]*+(:))?+|[\[\]{}]', re.DOTALL)
_CANDIDATE: Final = re.compile(
    rb'(?<!\\)"(?=https:|data:|[a-z:]{0,7}\\)((?:[^"\\]++|\\.)*+)"(?:[ \t\r\n]*+(:))?+', re.DOTALL
)
"""A string that may begin as a reference does: no other quote stands before these letters."""
_WHOLE_ESCAPES: Final = re.compile(rb"(?:[^\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+", re.DOTALL)


def escape_placeholder(text: str) -> str:
    """A string of a model's own, so that nobody takes it for the place of a medium.

    `media:0` stands for the first medium wherever an output is shown; where a model says so itself,
    it becomes `text:media:0`, and what is such already gets one more `text:`.
    """
    return PLACEHOLDER_ESCAPE + text if _PLACE.fullmatch(text) else text


def is_link(text: str) -> bool:
    """Whether a string, where one is to be, is an address or a data URI; words are neither."""
    found = _LINK.match(text)
    return found is not None and (found.end() == len(text) or found[0].endswith(","))


def is_medium(text: str) -> bool:
    """Whether a string in the output of a model of media is one: also a data URI that is broken,
    or what has lost the head of its data URI. `text` may be the beginning of a long one.
    """
    is_data = text[:5].lower() == "data:" and not _BLANK.search(text, 0, _LONGEST_HEAD)
    return is_data or is_link(text) or bool(bare_media_type(text))


def bare_media_type(text: str) -> str:
    """The media type of a file in base64 without a head, by its signature; empty: it is none."""
    if not _BASE64.match(text):
        return ""
    media_type = sniff(binascii.a2b_base64(text[:_BASE64_HEAD]))
    return "" if media_type == UNKNOWN else media_type


def is_reference(text: str) -> bool:
    """Whether a string is a medium, wherever it stands: delivered by Replicate, or a data URI."""
    if text.startswith("data:"):
        return ";base64," in text[:128]
    return is_delivery_url(text)


def is_delivery_url(text: str) -> bool:
    """Whether it is a data URI, or a link to where Replicate keeps what models make."""
    if text.startswith("data:"):
        return is_link(text)
    if _DELIVERED.match(text):
        return True
    if not text.startswith("https://") or "replicate" not in text.lower():
        return False
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    return is_delivery_host(host, port, parts.path)


def is_delivery_host(host: str, port: int | None, path: str) -> bool:
    """Whether Replicate keeps outputs there: on hosts of its own, and in one bucket of Google's.

    `path` is as it is sent. The bucket's host is everybody's, so nothing in the path may lead out
    of the bucket, however often whoever reads it decodes it.
    """
    if host == _DELIVERY or host.endswith(f".{_DELIVERY}"):
        return True
    if host != _BUCKET_HOST or port not in (None, 443) or not path.startswith(_BUCKET_PATH):
        return False
    path = path.partition("?")[0]
    for _ in range(_MOST_DECODINGS):
        if "\\" in path or not {".", ".."}.isdisjoint(path.split("/")):
            return False
        decoded = unquote(path)
        if decoded == path:
            return True
        path = decoded
    return False


def find_references(
    data: Data,
    begin: int,
    end: int,
    paths: Paths,
    *,
    anywhere: bool,
    is_one: Callable[[str], bool] = is_link,
) -> Iterator[tuple[int, int]]:
    """Where the references in a value begin and end, within their quotes and in order.

    `paths` are where a string is one that is so by `is_one`; `anywhere`: so is what looks like one
    in another place.
    """
    if paths:
        yield from _references_by_path(data, begin, end, paths, is_one, anywhere=anywhere)
    elif anywhere:
        for found in _CANDIDATE.finditer(data, begin, end):
            if found.lastindex == 1 and _looks_like_one(data, *found.span(1)):
                yield found.span(1)


def _references_by_path(
    data: Data,
    begin: int,
    end: int,
    paths: Paths,
    is_one: Callable[[str], bool],
    *,
    anywhere: bool,
) -> Iterator[tuple[int, int]]:
    # `here`: what is left of the paths that lead to the next value. Below a container that no
    # path leads into, levels are counted only.
    here: Paths = [tuple(path) for path in paths]
    above: list[tuple[Paths, Paths]] = []
    within: Paths = ()
    passed_over = 0
    for found in _TOKEN.finditer(data, begin, end):
        if found.lastindex == 2:
            if not passed_over:
                here = _inside(within, decode_key(data, *found.span(1)))
        elif found.lastindex == 1:
            first, last = found.span(1)
            is_there = not passed_over and first < last and any(not path for path in here)
            if (is_there and is_one(decode_prefix(data, first, last, MAX_LINK_CHARACTERS))) or (
                anywhere and _looks_like_one(data, first, last)
            ):
                yield first, last
        elif data[found.start()] in b"[{":
            if passed_over or not any(here):
                passed_over += 1
                continue
            above.append((within, here))
            within = here
            here = _inside(here, ITEM_STEP) if data[found.start()] == ord("[") else ()
        elif passed_over:
            passed_over -= 1
        elif above:
            within, here = above.pop()


def _inside(paths: Paths, step: PathStep) -> Paths:
    return [path[1:] for path in paths if path and path[0] in (step, ANY_STEP)]


def decode_key(data: Data, begin: int, end: int) -> str:
    """A key; empty where it is too long for any that is looked for."""
    return decode_string(data[begin:end]) if end - begin <= _LONGEST_KEY else ""


def decode_string(literal: bytes) -> str:
    """A string, from what stands within its quotes. Raises Unreadable."""
    try:
        text: str = json.loads(b'"' + literal + b'"', strict=False)
    except ValueError:
        raise MalformedJson from None
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def find_placeholder_text(data: Data, begin: int, end: int) -> Iterator[int]:
    """Where strings of the model's own begin that read like places: see `escape_placeholder`."""
    for found in _PLAIN.finditer(data, begin, end):
        if _PLACE.fullmatch(decode_string(found[1])):
            yield found.start(1)


def decode_prefix(data: Data, begin: int, end: int, most: int = _HEAD) -> str:
    """The first letters of a string, some hundred at least."""
    whole = _WHOLE_ESCAPES.match(data[begin : min(end, begin + most)])
    literal = whole[0] if whole else b""
    return decode_string(literal.decode("utf-8", "ignore").encode())


def _looks_like_one(data: Data, begin: int, end: int) -> bool:
    if end - begin < _SHORTEST or data[begin : begin + 1] not in (b"h", b"d", b"\\"):
        return False
    head = decode_prefix(data, begin, end)
    if head.startswith("data:"):
        return is_reference(head)
    if not head.startswith("https://") or end - begin > MAX_LINK_CHARACTERS:
        return False
    return is_reference(decode_string(data[begin:end]))
