"""URL rules: paths of the API, and which hosts streams may be on. No I/O.

Every URL is built from the base URL. URLs in responses are used in two places only: the cursor of a
list, and the stream's URL after `parse_stream_url` has checked it.
"""

import re
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote, urlsplit

from yarl import URL

from mediagate_server.network.request_url import parse_request_url
from mediagate_server.upstream.port import NoResponse, RefusalReason, RequestRefused

_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
_MODEL = re.compile(rf"{_NAME}/{_NAME}")
_PINNED = re.compile(rf"{_NAME}/{_NAME}:[A-Za-z0-9_-]{{1,128}}")
_VERSION = re.compile(r"[0-9a-f]{64}")
_DEPLOYMENT = re.compile(rf"deployments/{_NAME}/{_NAME}")
_STREAM_DOMAINS = (".replicate.com", ".replicate.net")


def create_endpoint(target: str) -> tuple[str, str | None]:
    """Path to POST a prediction to, and the `version` for its body (None: the path has it).

    An official model has its own path. A pinned version goes to `/predictions`, which takes
    `owner/name:version` and a bare 64-hex version id. Raises RequestRefused (NOT_FOUND) otherwise.
    """
    if _DEPLOYMENT.fullmatch(target):
        return f"/{target}/predictions", None
    if _MODEL.fullmatch(target):
        return f"/models/{target}/predictions", None
    if _PINNED.fullmatch(target) or _VERSION.fullmatch(target):
        return "/predictions", target
    raise RequestRefused(RefusalReason.NOT_FOUND)


def prediction_path(prediction_id: str) -> str:
    """Path of a prediction; the id stays one segment whatever it holds.

    Raises RequestRefused (NOT_FOUND) for an empty id and for dots, which URL libraries resolve.
    """
    if prediction_id in ("", ".", ".."):
        raise RequestRefused(RefusalReason.NOT_FOUND)
    return f"/predictions/{quote(prediction_id, safe='')}"


def model_path(slug: str) -> str:
    """Path of a model. Raises RequestRefused (NOT_FOUND) for what is not `owner/name`."""
    if not _MODEL.fullmatch(slug):
        raise RequestRefused(RefusalReason.NOT_FOUND)
    return f"/models/{slug}"


def version_path(slug: str, version: str) -> str:
    """Path of a version. Raises RequestRefused (NOT_FOUND) for an impossible name."""
    if not _PINNED.fullmatch(f"{slug}:{version}"):
        raise RequestRefused(RefusalReason.NOT_FOUND)
    return f"/models/{slug}/versions/{version}"


def deployment_path(name: str) -> str:
    """Path of a deployment. Raises RequestRefused (NOT_FOUND) for what is not `owner/name`."""
    if not _MODEL.fullmatch(name):
        raise RequestRefused(RefusalReason.NOT_FOUND)
    return f"/deployments/{name}"


def next_cursor(next_url: object) -> str | None:
    """The cursor in a list's `next`; None: last page.

    Raises NoResponse for an unreadable one: a list that silently ends early would prove the absence
    of predictions that exist.
    """
    if next_url is None or next_url == "":
        return None
    if isinstance(next_url, str):
        try:
            cursors = parse_qs(urlsplit(next_url).query).get("cursor")
        except ValueError as unreadable:
            raise NoResponse("the list's next page has no readable address") from unreadable
        if cursors:
            return cursors[-1]
    raise NoResponse("the list's next page has no cursor")


def format_instant(moment: datetime) -> str:
    """Format a time as ISO 8601 in UTC, for list filters. A naive time is taken as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_stream_url(stream_url: str, root: URL) -> URL:
    """Parse and check the URL of a stream, once, with the library that connects.

    Path and query stay as they are.

    Allowed: upstream's own scheme, host and port, or https on Replicate's streaming hosts. Raises
    RequestRefused (OTHER) otherwise: a response must not direct requests at other machines.
    """
    try:
        url = parse_request_url(stream_url)
        host, port = url.raw_host or "", url.port
    except ValueError as unreadable:
        raise RequestRefused(RefusalReason.OTHER) from unreadable
    own = (url.scheme, host, port) == (root.scheme, (root.raw_host or "").lower(), root.port)
    replicate = url.scheme == "https" and port == 443 and host.endswith(_STREAM_DOMAINS)
    if not (own or replicate):
        raise RequestRefused(RefusalReason.OTHER)
    return url
