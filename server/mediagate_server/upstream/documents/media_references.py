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
from mediagate_server.upstream.documents.json_skip_scanner import Data, MalformedJson

ANY_STEP: Final = "*"
"""Path step: any item or any member."""
ITEM_STEP: Final = 0
"""Path step: any item of a list."""
MAX_LINK_CHARACTERS: Final = 256 * 1024

PathStep = str | int
Paths = Sequence[Sequence[PathStep]]

_DELIVERY: Final = "replicate.delivery"
_DELIVERED: Final = re.compile(r"https://(?:[a-z0-9-]++\.)??replicate\.delivery/")
"""Fast path for nearly all references: a tenth of the cost of parsing a URL."""
_BUCKET_HOST: Final = "storage.googleapis.com"
_BUCKET_PATH: Final = "/replicate-files/"
_MOST_DECODINGS: Final = 4
PLACEHOLDER_ESCAPE: Final = "text:"
"""Prefix of a model's own string that reads like a placeholder."""
_PLACEHOLDER: Final = re.compile(r"(?:text:)*media:[0-9]+")
_PLAIN: Final = re.compile(
    rb'(?<!\\)"(?=[mt]|\\u00[67])((?:[a-z0-9:]|\\u[0-9a-fA-F]{4})++)"(?![ \t\r\n]*+:)'
)
"""A string, not a key, that may read like a placeholder."""
_LINK: Final = re.compile(r"\s*+(?i:[a-z][a-z0-9+.-]*+)://[^\s/?#]\S*+\s*+|(?i:data):[^,\s]*+,")
_BLANK: Final = re.compile(r"\s")
_LONGEST_HEAD: Final = 128
_BASE64_HEAD: Final = 64
_BASE64: Final = re.compile(rf"[A-Za-z0-9+/]{{{_BASE64_HEAD}}}")
_HEAD: Final = 1_024
_SHORTEST: Final = len("data:;base64,")
_MAX_KEY_BYTES: Final = 1_024
_TOKEN: Final = re.compile(rb'"((?:[^"\\]++|\\.)*+)"(?:[ \t\r\n]*+(:))?+|[\[\]{}]', re.DOTALL)
_CANDIDATE: Final = re.compile(
    rb'(?<!\\)"(?=https:|data:|[a-z:]{0,7}\\)((?:[^"\\]++|\\.)*+)"(?:[ \t\r\n]*+(:))?+', re.DOTALL
)
"""A string that may begin like a reference: no other quote is before these letters."""
_COMPLETE_ESCAPES: Final = re.compile(rb"(?:[^\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+", re.DOTALL)


def escape_placeholder(text: str) -> str:
    """Escape a model's own string that reads like a placeholder of a medium.

    `media:0` stands for the first medium wherever an output is shown; a model's own `media:0`
    becomes `text:media:0`, and an escaped one gets one more `text:`.
    """
    return PLACEHOLDER_ESCAPE + text if _PLACEHOLDER.fullmatch(text) else text


def is_link(text: str) -> bool:
    """Whether a string is an address or a data URI, and not words."""
    match = _LINK.match(text)
    return match is not None and (match.end() == len(text) or match[0].endswith(","))


def is_medium(text: str) -> bool:
    """Whether a string in the output of a media model is a medium.

    Also a broken data URI, or base64 without a head. `text` may be the beginning of a long one.
    """
    is_data = text[:5].lower() == "data:" and not _BLANK.search(text, 0, _LONGEST_HEAD)
    return is_data or is_link(text) or bool(bare_media_type(text))


def bare_media_type(text: str) -> str:
    """The media type of base64 without a head, by its signature; empty: none."""
    if not _BASE64.match(text):
        return ""
    media_type = sniff(binascii.a2b_base64(text[:_BASE64_HEAD]))
    return "" if media_type == UNKNOWN else media_type


def is_reference(text: str) -> bool:
    """Whether any string is a medium: a URL of Replicate's delivery hosts, or a data URI."""
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
        url = urlsplit(text)
        host, port = url.hostname or "", url.port
    except ValueError:
        return False
    return is_delivery_host(host, port, url.path)


def is_delivery_host(host: str, port: int | None, path: str) -> bool:
    """Whether Replicate delivers outputs from there: its own hosts, and one bucket of Google's.

    `path` is as it is sent. The bucket's host is shared, so the path must not lead out of the
    bucket, however often it is decoded.
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
    is_match: Callable[[str], bool] = is_link,
) -> Iterator[tuple[int, int]]:
    """Spans of the references in a value, within their quotes and in order.

    `paths` lead to strings that are references where `is_match` says so; `anywhere`: also strings
    in other places that look like one.
    """
    if paths:
        yield from _references_by_path(data, begin, end, paths, is_match, anywhere=anywhere)
    elif anywhere:
        for match in _CANDIDATE.finditer(data, begin, end):
            if match.lastindex == 1 and _looks_like_reference(data, *match.span(1)):
                yield match.span(1)


def _references_by_path(
    data: Data,
    begin: int,
    end: int,
    paths: Paths,
    is_match: Callable[[str], bool],
    *,
    anywhere: bool,
) -> Iterator[tuple[int, int]]:
    # `here`: what is left of the paths that lead to the next value. Below a container that no
    # path leads into, levels are counted only.
    here: Paths = [tuple(path) for path in paths]
    above: list[tuple[Paths, Paths]] = []
    within: Paths = ()
    skipped_levels = 0
    for match in _TOKEN.finditer(data, begin, end):
        if match.lastindex == 2:
            if not skipped_levels:
                here = _descend(within, decode_key(data, *match.span(1)))
        elif match.lastindex == 1:
            first, last = match.span(1)
            is_at_path = not skipped_levels and first < last and any(not path for path in here)
            if (is_at_path and is_match(decode_prefix(data, first, last, MAX_LINK_CHARACTERS))) or (
                anywhere and _looks_like_reference(data, first, last)
            ):
                yield first, last
        elif data[match.start()] in b"[{":
            if skipped_levels or not any(here):
                skipped_levels += 1
                continue
            above.append((within, here))
            within = here
            here = _descend(here, ITEM_STEP) if data[match.start()] == ord("[") else ()
        elif skipped_levels:
            skipped_levels -= 1
        elif above:
            within, here = above.pop()


def _descend(paths: Paths, step: PathStep) -> Paths:
    return [path[1:] for path in paths if path and path[0] in (step, ANY_STEP)]


def decode_key(data: Data, begin: int, end: int) -> str:
    """Decode a key; empty where it is longer than any that is searched."""
    return decode_string(data[begin:end]) if end - begin <= _MAX_KEY_BYTES else ""


def decode_string(literal: bytes) -> str:
    """Decode a string literal without its quotes. Raises MalformedJson."""
    try:
        text: str = json.loads(b'"' + literal + b'"', strict=False)
    except ValueError:
        raise MalformedJson from None
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def find_placeholder_text(data: Data, begin: int, end: int) -> Iterator[int]:
    """Positions of the model's own strings that read like placeholders (`escape_placeholder`)."""
    for match in _PLAIN.finditer(data, begin, end):
        if _PLACEHOLDER.fullmatch(decode_string(match[1])):
            yield match.start(1)


def decode_prefix(data: Data, begin: int, end: int, most: int = _HEAD) -> str:
    """Decode the first characters of a string, some hundred at least."""
    match = _COMPLETE_ESCAPES.match(data[begin : min(end, begin + most)])
    literal = match[0] if match else b""
    return decode_string(literal.decode("utf-8", "ignore").encode())


def _looks_like_reference(data: Data, begin: int, end: int) -> bool:
    if end - begin < _SHORTEST or data[begin : begin + 1] not in (b"h", b"d", b"\\"):
        return False
    head = decode_prefix(data, begin, end)
    if head.startswith("data:"):
        return is_reference(head)
    if not head.startswith("https://") or end - begin > MAX_LINK_CHARACTERS:
        return False
    return is_reference(decode_string(data[begin:end]))
