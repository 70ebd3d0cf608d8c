"""JSON of predictions -> our own types, leniently. Knows the port's types and no HTTP.

What is paid for must never be lost because a field beside the id looks odd: everything but the
id may be missing, null or of another type. Only a document without an id is unreadable.
"""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

import msgspec
import orjson
from msgspec import Raw, Struct

from mediagate_server.replicate.addresses import next_cursor
from mediagate_server.replicate.port import (
    NoAnswer,
    Prediction,
    PredictionPage,
    PredictionStatus,
)

_LONGEST_ID = 256
_LARGEST_EXPONENT = 30
"""A metric of 1e31 or of 1e-31 is no count and no time: multiplied it would only fill memory."""
_TOO_LARGE: int = 10 ** (_LARGEST_EXPONENT + 1)

_Metrics = dict[str, Decimal | int | str | bool]


def decode_prediction(body: bytes) -> Prediction:
    """One prediction. NoAnswer where no id can be read."""
    document = _loads(body)
    prediction = _prediction(document, lambda: _exact_metrics(body))
    if prediction is None:
        raise NoAnswer("the answer names no prediction")
    return prediction


def decode_page(body: bytes) -> PredictionPage:
    """One page of a list. Rows without an id are left out. NoAnswer where there is no list."""
    document = _loads(body)
    rows = document.get("results") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise NoAnswer("the answer holds no list of predictions")
    exact_rows: list[Any] = []

    def exact_metrics(index: int) -> object:
        if not exact_rows:
            exact_rows.extend(_exact(body)["results"])
        return exact_rows[index].get("metrics")

    def decoded() -> Iterable[Prediction]:
        for index, row in enumerate(rows):
            prediction = _prediction(row, partial(exact_metrics, index))
            if prediction is not None:
                yield prediction

    return PredictionPage(tuple(decoded()), next_cursor(document.get("next")))


def decode_secret(body: bytes) -> str:
    """The secret in an answer about it. NoAnswer where there is none."""
    document = _loads(body)
    key = document.get("key") if isinstance(document, dict) else None
    if not isinstance(key, str) or not key:
        raise NoAnswer("the answer holds no secret")
    return key


def _loads(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # It is right to be strict with lone surrogates, control characters, NaN and bytes that
        # are no UTF-8, but not when the id of something paid stands beside them.
        try:
            return _printable(_LENIENT.decode(body.decode("utf-8", "replace")))
        except (ValueError, RecursionError) as unreadable:
            raise NoAnswer("the answer is not JSON") from unreadable


def _exact(document: bytes) -> Any:
    """The document with every fraction as its literal says: 0.1 is a tenth, which no float is.

    Done a second time and only where metrics hold fractions, because inputs and outputs must
    stay plain JSON values.
    """
    return _EXACT.decode(document.decode("utf-8", "replace"))


class _Metered(Struct):
    """Of a prediction what is billed, not yet read; all else is passed over."""

    metrics: Raw = Raw(b"null")


def _exact_metrics(body: bytes) -> object:
    """The metrics of a prediction, exactly, if possible without making anything else of it."""
    try:
        return _EXACT_METRICS.decode(_METERED.decode(body).metrics)
    except ValueError:
        return _exact(body).get("metrics")


def _integer(literal: str) -> int | float:
    # Python refuses to read integers of thousands of digits, rightly; as a float it is infinite.
    return int(literal) if len(literal) < 1_000 else float(literal)


def _decimal(literal: str) -> Decimal | None:
    try:
        return Decimal(literal)
    except InvalidOperation:  # an exponent beyond what decimal can hold
        return None


_LENIENT = json.JSONDecoder(strict=False, parse_int=_integer)
_EXACT = json.JSONDecoder(strict=False, parse_float=_decimal, parse_int=_integer)
_METERED = msgspec.json.Decoder(_Metered)
_EXACT_METRICS = msgspec.json.Decoder(float_hook=_decimal)


def _printable(value: Any) -> Any:
    """The same document with lone surrogates replaced: nothing could send them on."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return value


def _prediction(document: object, exact_metrics: Callable[[], object]) -> Prediction | None:
    if not isinstance(document, dict) or not _is_id(document.get("id")):
        return None
    urls = document.get("urls")
    given = document.get("input")
    return Prediction(
        id=document["id"],
        status=_status(document.get("status")),
        model=_text(document.get("model")),
        input=given if isinstance(given, dict) else None,
        output=document.get("output"),
        error=_error(document.get("error")),
        logs=_text(document.get("logs")),
        metrics=_metrics(document.get("metrics"), exact_metrics),
        created_at=instant_of(document.get("created_at")),
        started_at=instant_of(document.get("started_at")),
        completed_at=instant_of(document.get("completed_at")),
        data_removed=document.get("data_removed") is True,
        stream_url=(_text(urls.get("stream")) or None) if isinstance(urls, dict) else None,
    )


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
    """Documented as a string, typed as anything: an object's `detail`, else its JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("detail"), str):
        return str(value["detail"])
    return json.dumps(value, ensure_ascii=False)


def instant_of(value: object) -> datetime | None:
    """RFC 3339 with any number of fraction digits, cut to microseconds. None where unreadable."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.upper())
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _metrics(told: object, exact_metrics: Callable[[], object]) -> _Metrics:
    if isinstance(told, dict) and any(type(value) is float for value in told.values()):
        # Whole numbers beyond 64 bits also come as floats from the fast parser.
        try:
            told = exact_metrics()
        except RecursionError:
            return {}  # An output nested that deep is still paid for, at a price nobody knows.
    if not isinstance(told, dict):
        return {}
    return {key: value for key, value in told.items() if _is_metric(value)}


def _is_metric(value: object) -> bool:
    if isinstance(value, Decimal):
        return value == 0 or abs(value.adjusted()) <= _LARGEST_EXPONENT
    if isinstance(value, int):  # A switch too.
        return -_TOO_LARGE < value < _TOO_LARGE
    return isinstance(value, str)
