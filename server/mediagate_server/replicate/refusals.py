"""What an HTTP answer that is not a success means, and what none at all. Sends nothing.

Upstream's own words stop here, but for what `invalid_fields.py` lets pass.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from mediagate_server.replicate.invalid_fields import invalid_fields
from mediagate_server.replicate.json_parsing import parse_object
from mediagate_server.replicate.port import NoAnswer, Refusal, Refused, UpstreamError

_REFUSALS = {
    400: Refusal.INPUT,
    401: Refusal.ACCOUNT,
    402: Refusal.ACCOUNT,
    403: Refusal.ACCOUNT,
    404: Refusal.NOT_FOUND,
    413: Refusal.INPUT,
    422: Refusal.INPUT,
    429: Refusal.THROTTLED,
}
# Client errors by number, but written by a machine on the way that gave up waiting: the request
# may have been carried on behind it.
_IN_DOUBT = frozenset({408, 499})
_API_ERRORS = frozenset({500, 503})
_PROBLEM_MEMBERS = frozenset(
    {"title", "detail", "status", "type", "instance", "invalid_fields", "retry_after"}
)
"""What the API's own errors consist of. Those of proxies that write JSON have more, or others."""
_LONGEST_DETAIL = 1_000
_RESETS_IN = re.compile(r"resets in ~?([0-9]{1,6}(?:\.[0-9]{1,6})?) ?s")
_PER_MINUTE = re.compile(r"(?:^|[^0-9])([1-9][0-9]{0,4}) requests per minute")
_SLOW = 1.0
"""Seconds. Whoever waits for an answer is told within five that upstream is not there."""
_LONGEST_WAIT = 86_400.0
_LONGEST_KEPT = 60.0
"""Seconds. The limits are by the minute: who asks for more is kept waiting for no more."""
_LONGEST_TOKEN = 10.0
"""Seconds until the next token of the slowest account there is, which gets six a minute."""
_MAY_REFUSE_CONTENT = frozenset({Refusal.INPUT, Refusal.OTHER})
_MOST_TEXT = 8 * 1024
"""Bytes of a body that are looked at for what it says of the content."""


def failure_of(
    status: int, headers: Mapping[str, str], body: bytes, now: datetime
) -> UpstreamError:
    """The exception for an answer outside 200-299.

    `now` is only for a Retry-After that is a date, where the answer has no date of its own.

    A redirect is never followed, so it answers nothing: after a create it is a doubt.
    """
    if not 400 <= status < 500 or status in _IN_DOUBT:
        return NoAnswer(
            f"http status {status}",
            http_status=status,
            api_error=status in _API_ERRORS and _is_api_error(status, headers, body),
        )
    refusal = _REFUSALS.get(status, Refusal.OTHER)
    document = _document(body)
    return Refused(
        refusal,
        http_status=status,
        retry_after=(
            _retry_after(headers, document, now) if refusal is Refusal.THROTTLED else None
        ),
        per_minute=_per_minute(document) if refusal is Refusal.THROTTLED else None,
        invalid_fields=invalid_fields(document) if refusal is Refusal.INPUT else None,
        error=body[:_MOST_TEXT].decode(errors="replace") if refusal in _MAY_REFUSE_CONTENT else "",
    )


def unanswered(failure: Exception, took: float = 0.0) -> UpstreamError:
    """Was anything sent? Only a failure to connect proves that nothing was. `took`: seconds.

    The adapter between httpx and aiohttp calls every broken connection a connect timeout, also
    one that broke after the request was written, so aiohttp's own exception is looked at.
    """
    told = failure if isinstance(failure, aiohttp.ClientError) else failure.__cause__
    if isinstance(told, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return unreachable(took)
    return NoAnswer("the connection broke")


def unreachable(took: float) -> Refused:
    """The exception for a connection that did not come about, after so many seconds."""
    return Refused(Refusal.UNREACHABLE, was_slow=took > _SLOW)


def _is_api_error(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the API wrote this error itself: then nothing behind it is still at work on it.

    Where that is not certain it is not so: the create is looked for a minute longer.
    """
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type not in {"application/json", "application/problem+json"}:
        return False
    document = _document(body)
    told = document.get("detail") or document.get("title")
    return (
        isinstance(told, str)
        and document.keys() <= _PROBLEM_MEMBERS
        and document.get("status", status) == status
    )


def _document(body: bytes) -> dict[str, Any]:
    """The problem object; empty for HTML, an array or anything else that is not one."""
    try:
        return parse_object(body).members
    except NoAnswer:
        return {}


def _per_minute(document: Mapping[str, Any]) -> int | None:
    """The rate that an account is reduced to, where a 429 says so: six a minute on low credit."""
    told = _PER_MINUTE.search(str(document.get("detail", ""))[:_LONGEST_DETAIL])
    return int(told[1]) if told else None


def _retry_after(
    headers: Mapping[str, str], document: Mapping[str, Any], now: datetime
) -> float | None:
    """Seconds to wait, from the first place that says so. Not every 429 has the header.

    The limit is a token bucket, and what is told to reset, in words or by `ratelimit-reset`, is
    full then: of a large bucket that is a minute away, and its next token a tenth of a second.
    """
    sent = _date(headers.get("Date")) or now
    for seconds in (
        _header_seconds(headers.get("Retry-After"), sent),
        _seconds(document.get("retry_after")),
    ):
        if seconds is not None:
            return min(seconds, _LONGEST_KEPT)
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
