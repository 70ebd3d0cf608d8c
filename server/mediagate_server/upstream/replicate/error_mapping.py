"""Error mapping: HTTP status or connection error -> RequestRefused or NoResponse.

Upstream's own text stops here, except descriptions of invalid inputs that have one of the known
shapes below, and so can be shown to callers; any other becomes one fixed sentence about the field,
as free text can name upstream's own machines, pages and money.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp

from mediagate_server.upstream.documents.json_parser import parse_object
from mediagate_server.upstream.port import NoResponse, RefusalReason, RequestRefused, UpstreamError

UNEXPLAINED: Final = "is not accepted by the model"
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}(?:\.[A-Za-z0-9_]{1,64}){0,4}")
_NUMBER = r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,3})?"
_TYPE = r"(?:string|integer|number|boolean|array|object|null)"
_CHOICE = rf'(?:"[^"/\\<>@\x00-\x1f]{{0,60}}"|{_NUMBER}|null|true|false)'
_SHAPES = tuple(
    re.compile(shape, re.ASCII)
    for shape in (
        r"[Ii]s required",
        r"[Ii]s not an input of the model",
        rf"Invalid type\. Expected: {_TYPE}(?:[/,] ?{_TYPE})*, given: {_TYPE}",
        rf"(?:[\w.]{{1,80}} )?must be one of the following: {_CHOICE}(?:, {_CHOICE}){{0,60}}",
        rf"Must be (?:greater|less) than(?: or equal to)? {_NUMBER}",
        rf"Must be a multiple of {_NUMBER}",
        rf"String length must be (?:greater|less) than or equal to {_NUMBER}",
        rf"Array must have at (?:least|most) {_NUMBER} items?",
        r"Does not match format '[a-z-]{1,32}'",
    )
)
_REQUIRED = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,63}) is required")
_ADDITIONAL = re.compile(r"Additional property ([A-Za-z_][A-Za-z0-9_]{0,63}) is not allowed")
_DETAIL_LINE = re.compile(r"^- *(input(?:\.[A-Za-z0-9_.]{1,120})?): (.+)$", re.MULTILINE)
_MOST_FIELDS = 32


def parse_invalid_fields(document: Mapping[str, Any]) -> dict[str, str]:
    """Invalid fields {input name: description}, from `invalid_fields` or lines of `detail`."""
    fields: dict[str, str] = {}
    for field, description in _listed_fields(document):
        name, text = _classify(field.strip(), description.strip())
        if _FIELD.fullmatch(name) and len(fields) < _MOST_FIELDS:
            fields.setdefault(name, text)
    return fields


def _listed_fields(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    listed = document.get("invalid_fields")
    if isinstance(listed, list) and listed:
        for entry in listed:
            if isinstance(entry, dict):
                yield str(entry.get("field", "")), str(entry.get("description", ""))
        return
    detail = document.get("detail")
    if isinstance(detail, str):
        for line in _DETAIL_LINE.finditer(detail[:8192]):
            yield line[1], line[2]


def _classify(field: str, description: str) -> tuple[str, str]:
    """Name the property, where upstream names the object that lacks it or has it."""
    prefix = "" if field == "input" else field.removeprefix("input.")
    path = f"{prefix}." if prefix else ""
    if missing := _REQUIRED.fullmatch(description):
        return path + missing[1], "is required"
    if extra := _ADDITIONAL.fullmatch(description):
        return path + extra[1], "is not an input of the model"
    if len(description) <= 600 and any(shape.fullmatch(description) for shape in _SHAPES):
        return prefix, description.removeprefix(f"{field} ")
    return prefix, UNEXPLAINED


_REFUSALS = {
    400: RefusalReason.INPUT,
    401: RefusalReason.ACCOUNT,
    402: RefusalReason.ACCOUNT,
    403: RefusalReason.ACCOUNT,
    404: RefusalReason.NOT_FOUND,
    413: RefusalReason.INPUT,
    422: RefusalReason.INPUT,
    429: RefusalReason.THROTTLED,
}
# Client errors by number, but written by a machine on the way that gave up waiting: the request
# may have been carried on behind it.
_UNCONFIRMED_STATUSES = frozenset({408, 499})
_API_ERRORS = frozenset({500, 503})
_PROBLEM_MEMBERS = frozenset(
    {"title", "detail", "status", "type", "instance", "invalid_fields", "retry_after"}
)
"""Members of the API's own errors. JSON errors of proxies have more, or others."""
_LONGEST_DETAIL = 1_000
_RESETS_IN = re.compile(r"resets in ~?([0-9]{1,6}(?:\.[0-9]{1,6})?) ?s")
_PER_MINUTE = re.compile(r"(?:^|[^0-9])([1-9][0-9]{0,4}) requests per minute")
_SLOW = 1.0
"""Seconds to a failed connect that count as slow: callers get an error within five."""
_LONGEST_WAIT = 86_400.0
_MAX_RETRY_AFTER = 60.0
"""Seconds. Limits are per minute, so longer waits are cut to this."""
_LONGEST_TOKEN = 10.0
"""Seconds until the next token of the slowest account, which gets six a minute."""
_MAY_REFUSE_CONTENT = frozenset({RefusalReason.INPUT, RefusalReason.OTHER})
_MOST_TEXT = 8 * 1024
"""Bytes of a body that are searched for content refusals."""


def error_for_response(
    status: int, headers: Mapping[str, str], body: bytes, now: datetime
) -> UpstreamError:
    """The exception for a response outside 200-299.

    `now` is only for a Retry-After that is a date, where the response has no Date of its own. A
    redirect is never followed: after a create it leaves that unconfirmed.
    """
    if not 400 <= status < 500 or status in _UNCONFIRMED_STATUSES:
        return NoResponse(
            f"http status {status}",
            http_status=status,
            api_error=status in _API_ERRORS and _is_api_error(status, headers, body),
        )
    refusal = _REFUSALS.get(status, RefusalReason.OTHER)
    document = _document(body)
    return RequestRefused(
        refusal,
        http_status=status,
        retry_after=(
            _retry_after(headers, document, now) if refusal is RefusalReason.THROTTLED else None
        ),
        per_minute=_per_minute(document) if refusal is RefusalReason.THROTTLED else None,
        invalid_fields=parse_invalid_fields(document) if refusal is RefusalReason.INPUT else None,
        error=body[:_MOST_TEXT].decode(errors="replace") if refusal in _MAY_REFUSE_CONTENT else "",
    )


def error_for_exception(failure: Exception, took: float = 0.0) -> UpstreamError:
    """The exception for a connection error; `took` in seconds.

    Only a failed connect proves that nothing was sent. The adapter between httpx and aiohttp calls
    every broken connection a connect timeout, also one that broke after the request was written, so
    aiohttp's own exception is used.
    """
    cause = failure if isinstance(failure, aiohttp.ClientError) else failure.__cause__
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return connect_error(took)
    return NoResponse("the connection broke")


def connect_error(took: float) -> RequestRefused:
    """The exception for a failed connect, after so many seconds."""
    return RequestRefused(RefusalReason.UNREACHABLE, was_slow=took > _SLOW)


def _is_api_error(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the API itself wrote this error: then nothing behind it still works on it.

    False where that is uncertain: the create is searched for a minute longer.
    """
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type not in {"application/json", "application/problem+json"}:
        return False
    document = _document(body)
    text = document.get("detail") or document.get("title")
    return (
        isinstance(text, str)
        and document.keys() <= _PROBLEM_MEMBERS
        and document.get("status", status) == status
    )


def _document(body: bytes) -> dict[str, Any]:
    """The problem object; empty for HTML, an array or anything else that is not one."""
    try:
        return parse_object(body).members
    except NoResponse:
        return {}


def _per_minute(document: Mapping[str, Any]) -> int | None:
    """The reduced rate of an account, where a 429 names it: six a minute on low credit."""
    match = _PER_MINUTE.search(str(document.get("detail", ""))[:_LONGEST_DETAIL])
    return int(match[1]) if match else None


def _retry_after(
    headers: Mapping[str, str], document: Mapping[str, Any], now: datetime
) -> float | None:
    """Seconds to wait, from the first source that has them. Not every 429 has Retry-After.

    The limit is a token bucket, and a reset time, in the text or `ratelimit-reset`, is when it is
    full: of a large bucket that is a minute away, and its next token a tenth of a second.
    """
    sent = _date(headers.get("Date")) or now
    for seconds in (
        _header_seconds(headers.get("Retry-After"), sent),
        _seconds(document.get("retry_after")),
    ):
        if seconds is not None:
            return min(seconds, _MAX_RETRY_AFTER)
    text = _RESETS_IN.search(str(document.get("detail", "")))
    for full in (_seconds(text[1] if text else None), _seconds(headers.get("ratelimit-reset"))):
        if full is not None:
            return min(full, _LONGEST_TOKEN)
    return None


def _header_seconds(value: str | None, sent: datetime) -> float | None:
    """Retry-After is a number of seconds or an HTTP date; a date gone by means now.

    The date is by upstream's clock, as is that of the answer.
    """
    seconds = _seconds(value)
    moment = None if seconds is not None else _date(value)
    return seconds if moment is None else _seconds(max(0.0, (moment - sent).total_seconds()))


def _date(value: str | None) -> datetime | None:
    """An HTTP date; None for anything else."""
    try:
        moment = parsedate_to_datetime(value) if value else None
    except (ValueError, TypeError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment and not moment.tzinfo else moment


def _seconds(value: object) -> float | None:
    """A wait that can be meant: a number, not negative, at most a day."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds <= _LONGEST_WAIT else None
