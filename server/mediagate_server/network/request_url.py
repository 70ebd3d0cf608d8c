"""Request URLs without normalisation: for links that others gave us and that may be signed.

HTTP libraries normalise a URL (`%2C` becomes `,`), and a signature over its path or query is then
wrong. Here only what no request line can hold is changed: a host that is not ASCII becomes its IDNA
form, other such letters become percent-encoded UTF-8, and a fragment is left out. Host and port are
parsed by the library that connects, so that what is checked is what is connected to.
"""

import re
from functools import lru_cache
from typing import Final

from yarl import URL

_URL: Final = re.compile(r"(?P<origin>[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]*)(?P<target>[^#]*)")
_STRIPPED: Final = "".join(map(chr, range(0x21)))
"""Stripped from both ends of a URL: control characters and spaces, as in WHATWG and yarl."""
_REMOVED: Final = str.maketrans("", "", "\t\r\n")
_NOT_SENDABLE: Final = re.compile(r"[^!-~]+")
_HOST: Final = re.compile(r"[!-~]+")
_MAX_CACHED_ORIGINS: Final = 64
"""Cached origins: the streams of all models come from a few."""
_MAX_CACHED_CHARACTERS: Final = 256
"""Maximum characters of a cached origin: others may be as long as a request."""
_HAS_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def parse_request_url(text: str) -> URL:
    """Parse the URL of a request. Raises ValueError where there is none."""
    text = text.strip(_STRIPPED).translate(_REMOVED)
    match = _URL.match(text)
    if match is None:
        raise ValueError("no absolute URL")
    origin = match["origin"]
    is_short = len(origin) <= _MAX_CACHED_CHARACTERS
    scheme, authority = _parse_origin_cached(origin) if is_short else _parse_origin(origin)
    target = _NOT_SENDABLE.sub(_percent_encode, match["target"])
    path, mark, query = target.partition("?")
    return URL.build(
        scheme=scheme,
        authority=authority,
        # yarl cannot represent an empty query.
        path=(path or "/") + ("?" if mark and not query else ""),
        query_string=query,
        encoded=True,
    )


def _parse_origin(text: str) -> tuple[str, str]:
    """Scheme and authority as they are sent. Raises ValueError."""
    origin = URL(text)
    if not _HOST.fullmatch(origin.raw_host or ""):
        raise ValueError("a URL without a host that can be sent")
    if "@" in text:
        raise ValueError("a URL with user info")
    return origin.scheme, origin.raw_authority


_parse_origin_cached = lru_cache(_MAX_CACHED_ORIGINS)(_parse_origin)


def ascii_url(text: str) -> str:
    """ASCII form of an http URL, which every model's HTTP library takes: IDNA host, percent-encoded
    path; any other text as it is.
    """
    if text.isascii() or not text.lower().startswith(("http://", "https://")):
        return text
    try:
        return str(parse_request_url(text))
    except ValueError:
        return text


def resolve_redirect(base_url: URL, location: str) -> URL:
    """Resolve a redirect's location. Absolute ones are not normalised; of a relative one dot
    segments are removed. Raises ValueError.
    """
    location = location.strip(_STRIPPED).translate(_REMOVED)
    if _HAS_SCHEME.match(location):
        return parse_request_url(location)
    if location.startswith("//"):
        return parse_request_url(f"{base_url.scheme}:{location}")
    reference, mark, query = location.partition("#")[0].partition("?")
    origin = f"{base_url.scheme}://{base_url.raw_authority}"
    path = base_url.raw_path.removesuffix("?")
    if reference:
        merged = f"{path.rpartition('/')[0]}/{reference}"
        path = reference if reference.startswith("/") else _remove_dot_segments(merged)
    elif not mark:
        query, mark = base_url.raw_query_string, "?" if base_url.raw_query_string else ""
    return parse_request_url(f"{origin}{path}{mark}{query}")


def _remove_dot_segments(path: str) -> str:
    """RFC 3986, 5.2.4. urllib's own joining also drops empty segments."""
    output: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del output[-1:]
        elif segment != ".":
            output.append(segment)
    if segments[-1] in (".", ".."):
        output.append("")
    return "/" + "/".join(output)


def _percent_encode(match: re.Match[str]) -> str:
    # Headers are decoded as UTF-8 with surrogateescape.
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))
