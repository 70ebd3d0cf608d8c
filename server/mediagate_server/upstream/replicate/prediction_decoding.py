"""JSON of predictions -> our own types, leniently. Knows the port's types and no HTTP.

What is paid for must never be lost because a field beside the id looks odd: everything but the
id may be missing, null or of another type. Only a document without an id is unreadable.

All that is read here is bounded here, once, to what the store, the contract and a clock can hold:
what is beyond is left out, or unknown, and nobody behind has to ask again. `json_parser.py` does
the same for JSON values themselves.

Log and metric of values in upstream's answers that nothing can hold; never the values.

The log has at most one line a second, however many answers there are: an upstream that is wrong
once is wrong all the time.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final

import msgspec
import structlog
from msgspec import Raw, Struct

from mediagate_server.observability import metrics
from mediagate_server.runtime import crash_marks, failpoints
from mediagate_server.upstream.documents.json_parser import (
    ParsedObject,
    parse_decimals,
    parse_object,
    split_elements,
    split_members,
)
from mediagate_server.upstream.port import (
    UNUSABLE_VALUE,
    NoResponse,
    Prediction,
    PredictionPage,
    PredictionStatus,
)
from mediagate_server.upstream.replicate.url_rules import next_cursor

_PAUSE_SECONDS: Final = 1.0
_log = structlog.get_logger()


class DiscardedValueLog:
    """Tells of values that were left out. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._silent_until = float("-inf")
        self._suppressed = 0

    def report(self, prediction_id: str, fields: Iterable[str]) -> None:
        """Upstream told nothing usable in these fields of a prediction; the names are our own."""
        named = sorted(set(fields))
        for field in named:
            metrics.discarded_values.labels(field).inc()
        now = self._clock()
        if now < self._silent_until:
            self._suppressed += 1
            return
        _log.warning(
            "upstream_value_discarded",
            prediction=prediction_id,
            fields=named,
            suppressed=self._suppressed,
        )
        self._silent_until, self._suppressed = now + _PAUSE_SECONDS, 0


LOG: Final = DiscardedValueLog()
"""That of this process."""
_LONGEST_ID: Final = 256
_LONGEST_NAME: Final = 512
"""Characters of a model's name."""
_LONGEST_URL: Final = 8_192
_MOST_METRICS: Final = 1_000
_LONGEST_METRIC: Final = 128
"""Characters of a metric's name, as Cog has it, and of a word that is its value."""
_LARGEST: Final = 2**63 - 1
"""What the store and the contract hold of a count."""
_LARGEST_EXPONENT: Final = 18
_SMALLEST_EXPONENT: Final = -30
"""A metric of 1e-31 is no time: multiplied it would only fill memory."""
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2262, 1, 1, tzinfo=UTC)
"""What clocks of 64-bit nanoseconds can tell; other times are no times of a prediction."""
_Metrics = Mapping[str, Decimal | int | str | bool]


def decode_prediction(body: bytes) -> Prediction:
    """One prediction. NoResponse where no id can be read.

    Without its output, and all else that may be large, where the task's generation is quarantined.
    """
    with crash_marks.crash_marked():
        if crash_marks.skips_output():
            return _decode(_outline(body))
        failpoints.hit("while_decoding")
        return _decode(body)


def _decode(body: bytes) -> Prediction:
    document = parse_object(body)
    prediction = _prediction(document, partial(_exact_metrics, document, body))
    if prediction is None:
        raise NoResponse("the answer names no prediction")
    return prediction


def decode_page(body: bytes) -> PredictionPage:
    """One page of a list. Rows without an id are left out. NoResponse where there is no list."""
    page = parse_object(body)
    if page.too_deep:
        rows = _rows_taken_apart(page.texts.get("results", b""))
    else:
        rows = _rows(page.members.get("results"), body)
    predictions = tuple(prediction for prediction in rows if prediction is not None)
    return PredictionPage(predictions, next_cursor(page.members.get("next")))


def _rows(rows: object, body: bytes) -> Iterator[Prediction | None]:
    if not isinstance(rows, list):
        raise NoResponse("the answer holds no list of predictions")
    exact_rows: list[Any] = []

    def exact_metrics(index: int) -> object:
        if not exact_rows:
            exact_rows.extend(parse_decimals(body)["results"])
        return exact_rows[index].get("metrics")

    for index, row in enumerate(rows):
        if isinstance(row, dict):
            yield _prediction(ParsedObject(row), partial(exact_metrics, index))


def _rows_taken_apart(results: bytes) -> Iterator[Prediction | None]:
    """Of a page with a row that is nested too deep: each is parsed by itself."""
    for row in split_elements(results, b"["):
        if row.strip().startswith(b"{"):
            document = parse_object(row)
            yield _prediction(document, partial(_exact_metrics, document, row))


def decode_secret(body: bytes) -> str:
    """The secret in an answer about it. NoResponse where there is none."""
    key = parse_object(body).members.get("key")
    if not isinstance(key, str) or not key:
        raise NoResponse("the answer holds no secret")
    return key


class _PredictionOutcome(Struct):
    """Of a prediction what says how it ended and what it cost; all else is passed over unread."""

    id: Raw = Raw()
    status: Raw = Raw()
    metrics: Raw = Raw()
    created_at: Raw = Raw()
    started_at: Raw = Raw()
    completed_at: Raw = Raw()


_OUTLINE: Final = msgspec.json.Decoder(_PredictionOutcome)
_LARGEST_MEMBER: Final = 64 * 1024


def _outline(body: bytes) -> bytes:
    """The same document with nothing but what is small in it and needed."""
    names = _PredictionOutcome.__struct_fields__
    try:
        found = _OUTLINE.decode(body)
        members = {name: bytes(getattr(found, name)) for name in names}
    except (ValueError, RecursionError):  # Not strictly JSON, or deep: see json_parser.
        members = split_members(body)
    if len(members.get("metrics", b"")) > _LARGEST_MEMBER:
        members["metrics"] = b"0"  # Told, and not read.
    small = [
        f'"{name}":'.encode() + members[name]
        for name in names
        if 0 < len(members.get(name, b"")) <= _LARGEST_MEMBER
    ]
    return b"{" + b",".join(small) + b"}"


class _Metered(Struct):
    """Of a prediction what is billed, not yet read; all else is passed over."""

    metrics: Raw = Raw(b"null")


_METERED: Final = msgspec.json.Decoder(_Metered)


def _exact_metrics(document: ParsedObject, body: bytes) -> object:
    """The metrics of a prediction, exactly, if possible without making anything else of it."""
    if document.texts:
        return parse_decimals(document.texts["metrics"])
    try:
        metrics = bytes(_METERED.decode(body).metrics)
    except ValueError:
        return parse_decimals(body).get("metrics")
    return parse_decimals(metrics)


def _prediction(document: ParsedObject, exact_metrics: Callable[[], object]) -> Prediction | None:
    members = document.members
    if not _is_id(members.get("id")):
        return None
    discarded: set[str] = set()
    urls = members.get("urls")
    stream_url, web_url = "", ""
    if isinstance(urls, dict):
        stream_url, web_url = _text(urls.get("stream")), _text(urls.get("web"))
    prediction = Prediction(
        id=members["id"],
        status=_status(members.get("status")),
        model=_text(members.get("model"))[:_LONGEST_NAME],
        input=_input(document),
        output=members.get("output"),
        output_too_deep="output" in document.too_deep,
        error=_error(members.get("error")),
        logs=_text(members.get("logs")),
        metrics=None
        if "metrics" in document.too_deep
        else _metrics(members.get("metrics"), exact_metrics, discarded),
        created_at=_instant(members, "created_at", discarded),
        started_at=_instant(members, "started_at", discarded),
        completed_at=_instant(members, "completed_at", discarded),
        data_removed=members.get("data_removed") is True,
        stream_url=stream_url if 0 < len(stream_url) <= _LONGEST_URL else None,
        web_url=web_url if len(web_url) <= _LONGEST_URL else "",
    )
    if document.too_deep:
        discarded.add("depth")
    if discarded:
        LOG.report(prediction.id, discarded)
    return prediction


def _input(document: ParsedObject) -> Mapping[str, Any] | None:
    """None where upstream shows none. What is nested too deep for us is not what we have sent."""
    if "input" in document.too_deep:
        return {}
    given = document.members.get("input")
    return given if isinstance(given, dict) else None


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_ID and value not in (".", "..")


def _status(value: object) -> PredictionStatus:
    try:
        return PredictionStatus(_text(value))
    except ValueError:
        return PredictionStatus.UNKNOWN


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _error(value: object) -> str | None:
    """Documented as a string, typed as anything: of an object that is more than a `detail` the
    JSON, because it is only classified, and a code beside the words may say more than they do.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) and [*value] == ["detail"] and isinstance(value["detail"], str):
        return str(value["detail"])
    return json.dumps(value, ensure_ascii=False)


def _instant(members: Mapping[str, Any], name: str, discarded: set[str]) -> datetime | None:
    told = members.get(name)
    if told is None:
        return None
    moment = parse_instant(told)
    if moment is None:
        discarded.add(name)
    return moment


def parse_instant(value: object) -> datetime | None:
    """RFC 3339 with any number of fraction digits, cut to microseconds, in UTC.

    None where it is unreadable, or no time that a clock can tell.
    """
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.upper())
        if moment.tzinfo is not UTC:
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return moment if _EARLIEST <= moment < _LATEST else None


def _metrics(
    told: object, exact_metrics: Callable[[], object], discarded: set[str]
) -> _Metrics | None:
    """What is no number, word or switch, or more than we hold, is UNUSABLE; null is not there.

    None where something was told that holds none, or more of them than are read.
    """
    if told is None:
        return {}
    if not isinstance(told, dict) or len(told) > _MOST_METRICS:
        discarded.add("metrics")
        return None
    if any(type(value) not in _EXACT_TYPES for value in told.values()):
        # Fractions, and texts that may have been written as numbers.
        told = exact_metrics()
        if not isinstance(told, dict):
            return None
    metrics: dict[str, Decimal | int | str | bool] = {}
    for name, value in told.items():
        if value is None:
            continue
        if len(name) > _LONGEST_METRIC:
            discarded.add("metrics")
        elif _is_metric(value):
            metrics[name] = value
        else:
            if not isinstance(value, list | dict):  # Models may report those as they like.
                discarded.add("metrics")
            metrics[name] = UNUSABLE_VALUE
    return metrics


_EXACT_TYPES: Final = frozenset({int, bool, type(None)})


def _is_metric(value: object) -> bool:
    if isinstance(value, Decimal):
        if not value.is_finite():
            return False
        # By the place of its first digit, before its digits, which may be millions, are looked at.
        in_range = _SMALLEST_EXPONENT <= value.adjusted() <= _LARGEST_EXPONENT
        return value == 0 or (in_range and abs(value) <= _LARGEST)
    if isinstance(value, int):  # A switch too.
        return -_LARGEST <= value <= _LARGEST
    return isinstance(value, str) and len(value) <= _LONGEST_METRIC
