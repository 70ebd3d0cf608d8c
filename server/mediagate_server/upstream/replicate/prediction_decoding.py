"""Decoding of predictions: JSON -> the port's types, leniently. No HTTP.

A paid prediction must never be lost because of an odd field: everything but the id may be missing,
null or of another type. Only a document without an id is unreadable.

All values are bounded here, once, to what the store, the contract and a clock can hold: what is out
of range is discarded or unknown, and later code need not check again. Discarded fields are counted
and logged (never values), at most one line a second.
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
from mediagate_server.upstream.replicate.api_urls import next_cursor

_PAUSE_SECONDS: Final = 1.0
_log = structlog.get_logger()


class DiscardedValueLog:
    """Log and metric of discarded values. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._silent_until = float("-inf")
        self._suppressed = 0

    def report(self, prediction_id: str, fields: Iterable[str]) -> None:
        """Report fields of a prediction whose values are unusable; the names are our own."""
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
"""The log of this process."""
_LONGEST_ID: Final = 256
_LONGEST_NAME: Final = 512
"""Longest model name, in characters."""
_LONGEST_URL: Final = 8_192
_MOST_METRICS: Final = 1_000
_LONGEST_METRIC: Final = 128
"""Longest name of a metric, as in Cog, and longest string value, in characters."""
_MAX_COUNT: Final = 2**63 - 1
"""Largest count that the store and the contract hold."""
_LARGEST_EXPONENT: Final = 18
_SMALLEST_EXPONENT: Final = -30
"""Smallest exponent of a metric: 1e-31 is no duration, and would only fill memory."""
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2262, 1, 1, tzinfo=UTC)
"""The range of clocks with 64-bit nanoseconds; other times are invalid."""
_Metrics = Mapping[str, Decimal | int | str | bool]


def decode_prediction(body: bytes) -> Prediction:
    """Decode one prediction. Raises NoResponse where it has no id.

    Without its output, and all else that may be large, where the generation is quarantined.
    """
    with crash_marks.crash_marked():
        if crash_marks.skips_output():
            return _decode(_reduce_to_outcome(body))
        failpoints.hit("while_decoding")
        return _decode(body)


def _decode(body: bytes) -> Prediction:
    document = parse_object(body)
    prediction = _prediction(document, partial(_exact_metrics, document, body))
    if prediction is None:
        raise NoResponse("the answer names no prediction")
    return prediction


def decode_page(body: bytes) -> PredictionPage:
    """Decode a page of a list; rows without an id are skipped. Raises NoResponse."""
    page = parse_object(body)
    if page.too_deep:
        rows = _decode_rows_singly(page.texts.get("results", b""))
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


def _decode_rows_singly(results: bytes) -> Iterator[Prediction | None]:
    """Decode the rows of a page one by one, where a row is nested too deep."""
    for row in split_elements(results, b"["):
        if row.strip().startswith(b"{"):
            document = parse_object(row)
            yield _prediction(document, partial(_exact_metrics, document, row))


def decode_secret(body: bytes) -> str:
    """Decode a webhook secret. Raises NoResponse."""
    key = parse_object(body).members.get("key")
    if not isinstance(key, str) or not key:
        raise NoResponse("the answer holds no secret")
    return key


class _PredictionOutcome(Struct):
    """The fields that say how a prediction ended and what it cost; all else is skipped."""

    id: Raw = Raw()
    status: Raw = Raw()
    metrics: Raw = Raw()
    created_at: Raw = Raw()
    started_at: Raw = Raw()
    completed_at: Raw = Raw()


_OUTCOME_DECODER: Final = msgspec.json.Decoder(_PredictionOutcome)
_MAX_MEMBER_BYTES: Final = 64 * 1024


def _reduce_to_outcome(body: bytes) -> bytes:
    """Reduce the document to the small fields that are needed."""
    names = _PredictionOutcome.__struct_fields__
    try:
        outcome = _OUTCOME_DECODER.decode(body)
        members = {name: bytes(getattr(outcome, name)) for name in names}
    except (ValueError, RecursionError):  # Not strictly JSON, or deep: see json_parser.
        members = split_members(body)
    if len(members.get("metrics", b"")) > _MAX_MEMBER_BYTES:
        members["metrics"] = b"0"  # Present, but not read.
    small = [
        f'"{name}":'.encode() + members[name]
        for name in names
        if 0 < len(members.get(name, b"")) <= _MAX_MEMBER_BYTES
    ]
    return b"{" + b",".join(small) + b"}"


class _RawMetrics(Struct):
    """The metrics of a prediction, undecoded; all else is skipped."""

    metrics: Raw = Raw(b"null")


_METRICS_DECODER: Final = msgspec.json.Decoder(_RawMetrics)


def _exact_metrics(document: ParsedObject, body: bytes) -> object:
    """The metrics with exact numbers, if possible without decoding anything else."""
    if document.texts:
        return parse_decimals(document.texts["metrics"])
    try:
        metrics = bytes(_METRICS_DECODER.decode(body).metrics)
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
    """The input; None where upstream shows none, {} where it is nested too deep to be ours."""
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
    """The error text. Documented as a string, typed as anything.

    An object with more than `detail` is kept as JSON: it is only classified, and a code may say
    more than the text.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) and [*value] == ["detail"] and isinstance(value["detail"], str):
        return str(value["detail"])
    return json.dumps(value, ensure_ascii=False)


def _instant(members: Mapping[str, Any], name: str, discarded: set[str]) -> datetime | None:
    value = members.get(name)
    if value is None:
        return None
    moment = parse_instant(value)
    if moment is None:
        discarded.add(name)
    return moment


def parse_instant(value: object) -> datetime | None:
    """Parse RFC 3339 with any number of fraction digits, truncated to microseconds, in UTC.

    None where it is unreadable or out of range.
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
    reported: object, exact_metrics: Callable[[], object], discarded: set[str]
) -> _Metrics | None:
    """Metrics: unusable values become UNUSABLE_VALUE, nulls are dropped.

    None where the value is no object, or has too many members.
    """
    if reported is None:
        return {}
    if not isinstance(reported, dict) or len(reported) > _MOST_METRICS:
        discarded.add("metrics")
        return None
    if any(type(value) not in _EXACT_TYPES for value in reported.values()):
        # Fractions, and texts that may have been written as numbers.
        reported = exact_metrics()
        if not isinstance(reported, dict):
            return None
    metrics: dict[str, Decimal | int | str | bool] = {}
    for name, value in reported.items():
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
        # Checked by its exponent first, as it may have millions of digits.
        in_range = _SMALLEST_EXPONENT <= value.adjusted() <= _LARGEST_EXPONENT
        return value == 0 or (in_range and abs(value) <= _MAX_COUNT)
    if isinstance(value, int):  # Booleans too.
        return -_MAX_COUNT <= value <= _MAX_COUNT
    return isinstance(value, str) and len(value) <= _LONGEST_METRIC
