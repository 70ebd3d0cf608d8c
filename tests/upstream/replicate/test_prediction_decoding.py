"""Predictions as upstream really writes them: odd shapes decode, and money keeps its digits."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.runtime.crash_marks import CURRENT_MARK, CrashMark
from mediagate_server.upstream.port import UNUSABLE_VALUE, NoResponse, Prediction, PredictionStatus
from mediagate_server.upstream.replicate.prediction_decoding import decode_page, decode_prediction


def decode(**fields: Any) -> Prediction:
    return decode_prediction(json.dumps({"id": "p1", "status": "starting"} | fields).encode())


def test_a_body_of_required_fields_only() -> None:
    """No output, metrics, times, urls.web: all as if absent, nothing fails."""
    body = b"""{"id":"gm3qorzdhgbfurvjtvhg6dckhu","model":"replicate-internal/llama-3-8b-triton",
      "version":"hidden","input":{"prompt":"hi"},"logs":null,"error":null,"status":"starting",
      "created_at":"2024-04-18T19:01:22.65Z","urls":{"cancel":"https://x/cancel","get":null}}"""
    prediction = decode_prediction(body)
    assert prediction.id == "gm3qorzdhgbfurvjtvhg6dckhu"
    assert prediction.status is PredictionStatus.STARTING
    assert prediction.input == {"prompt": "hi"}
    assert (prediction.logs, prediction.error, prediction.output) == ("", None, None)
    assert prediction.metrics == {}
    assert prediction.stream_url is None
    assert prediction.created_at == datetime(2024, 4, 18, 19, 1, 22, 650_000, tzinfo=UTC)


def test_a_sync_response_is_processing_with_its_output() -> None:
    """Output does not make an end: the status says processing and stays so."""
    prediction = decode(status="processing", output=["a", "b"], completed_at=None)
    assert not prediction.status.is_terminal
    assert prediction.output == ["a", "b"]


def test_data_uris_in_output_are_kept() -> None:
    """A file may come inline; it is kept letter for letter."""
    uri = "data:image/png;base64," + "iVBORw0KGgo=" * 40_000
    assert decode(status="succeeded", output=[uri]).output == [uri]


@pytest.mark.parametrize("status", ["succeeded", "failed", "canceled", "aborted"])
def test_terminal_statuses(status: str) -> None:
    """The four ends, `aborted` among them."""
    assert decode(status=status).status.is_terminal


@pytest.mark.parametrize("status", ["queued", "", None, 5, ["failed"], {"a": 1}])
def test_an_unknown_status_is_not_terminal(status: object) -> None:
    """A word we do not know, or no word, means: ask again."""
    assert decode(status=status).status is PredictionStatus.UNKNOWN


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (None, None),
        ("boom", "boom"),
        ("", ""),
        ({"detail": "no"}, "no"),
        ({"detail": "no", "code": 1}, '{"detail": "no", "code": 1}'),
        ({"code": 1}, '{"code": 1}'),
        (["a", 1], '["a", 1]'),
        (7, "7"),
    ],
)
def test_errors_of_any_type_become_text(error: object, text: str | None) -> None:
    """An error need not be a string."""
    assert decode(error=error).error == text


@pytest.mark.parametrize("digits", range(10))
def test_fractional_seconds_of_any_length(digits: int) -> None:
    """0 to 9 digits, cut to microseconds, never rounded up."""
    fraction = f".{'987654321'[:digits]}" if digits else ""
    moment = decode(created_at=f"2024-02-29T23:59:59{fraction}Z").created_at
    micro = int("987654"[:digits].ljust(6, "0"))
    assert moment == datetime(2024, 2, 29, 23, 59, 59, micro, tzinfo=UTC)


def test_timestamps_with_offset_without_zone_and_malformed() -> None:
    """An offset counts, no zone means UTC, nonsense is no time."""
    prediction = decode(
        created_at="2024-01-01T00:00:00.5+02:00",
        started_at="2024-01-01T00:00:00",
        completed_at="soon",
    )
    assert prediction.created_at == datetime(
        2024, 1, 1, 0, 0, 0, 500_000, tzinfo=timezone(timedelta(hours=2))
    )
    assert prediction.started_at == datetime(2024, 1, 1, tzinfo=UTC)
    assert prediction.completed_at is None
    assert decode(created_at=1_700_000_000).created_at is None


def test_metrics_keep_the_digits_of_the_literal() -> None:
    """Fractions are Decimal of what was written; what is no scalar cannot be reckoned with."""
    body = b"""{"id":"p","status":"succeeded","input":{"x":0.1},"metrics":{"predict_time":2.861892,
      "third":0.3333333333333333333333,"tokens":12,"big":9223372036854775807,"e":1.5E-7,
      "zero":0.0,"ok":true,"name":"a100","none":null,"list":[1.5],"object":{"a":1}}}"""
    prediction = decode_prediction(body)
    assert prediction.metrics == {
        "predict_time": Decimal("2.861892"),
        "third": Decimal("0.3333333333333333333333"),
        "tokens": 12,
        "big": 9223372036854775807,
        "e": Decimal("1.5E-7"),
        "zero": Decimal("0.0"),
        "ok": True,
        "name": "a100",
        "list": UNUSABLE_VALUE,
        "object": UNUSABLE_VALUE,
    }
    assert all(type(v) in (Decimal, int, bool, str) for v in prediction.metrics.values())
    assert prediction.input == {"x": 0.1}
    assert prediction.input is not None
    assert type(prediction.input["x"]) is float


@given(st.decimals(0, 10**9, allow_nan=False, places=None))
def test_no_metric_ever_passes_through_a_float(number: Decimal) -> None:
    """Any literal comes back as it was written."""
    literal = str(number)
    body = f'{{"id":"p","metrics":{{"a":0.5,"n":{literal}}}}}'.encode()
    decoded_metrics = (decode_prediction(body).metrics or {}).get("n")
    if number and (number.adjusted() < -30 or number > 2**63 - 1):
        assert decoded_metrics == UNUSABLE_VALUE
    else:
        assert str(decoded_metrics) == str(number)


_LITERALS = st.decimals(0, 1000, allow_nan=False, places=17).map(str) | st.sampled_from(
    ["0.10", "2.5E-7", "12", "9223372036854775807", "0.3333333333333333333333"]
)
_METRICS_LIKE = st.dictionaries(st.sampled_from(["n", "t", "metrics"]), _LITERALS).map(
    lambda named: "{" + ",".join(f'"{name}":{literal}' for name, literal in named.items()) + "}"
)
_BESIDE = st.recursive(
    _METRICS_LIKE
    | st.sampled_from(
        [
            "null",
            "1.5",
            "[]",
            '"metrics"',
            '",\\"metrics\\":{\\"n\\":1.5}"',
            '"\\",\\"metrics"',
            '","',
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
        | st.lists(
            st.tuples(st.sampled_from(["metrics", "a", ",", '\\"metrics', "\\u006detrics"]), inner),
            max_size=3,
        ).map(lambda named: "{" + ",\n  ".join(f'"{name}" : {item}' for name, item in named) + "}")
    ),
    max_leaves=6,
)


_FIELDS = st.lists(
    st.tuples(st.sampled_from(["input", "urls", "x", "metrics", "\\u006detrics"]), _BESIDE),
    max_size=3,
)


@given(
    _FIELDS,
    _METRICS_LIKE,
    _FIELDS,
    st.sampled_from([",", ", ", ",\n" + " " * 40]),
)
def test_metrics_are_read_only_from_the_top_level(
    before: list[tuple[str, str]], metrics: str, after: list[tuple[str, str]], comma: str
) -> None:
    """Other things may be called so too, before, after and within; the last one counts."""
    fields = [("id", '"p"'), *before, ("metrics", metrics), *after]
    body = "{" + comma.join(f'"{name}":{value}' for name, value in fields) + "}"
    exact = json.loads(body, parse_float=Decimal)["metrics"]
    decoded_metrics = decode_prediction(body.encode()).metrics
    if not isinstance(exact, dict | None):
        assert decoded_metrics is None
        return
    assert decoded_metrics is not None
    expected_metrics = exact or {}
    scalars = {
        name: value if isinstance(value, Decimal | int | str) else UNUSABLE_VALUE
        for name, value in expected_metrics.items()
        if value is not None
    }
    assert decoded_metrics == scalars
    assert {name: str(value) for name, value in decoded_metrics.items()} == {
        name: str(value) for name, value in scalars.items()
    }


DEEP = [101, 500, 1_000, 1_100, 100_000]
"""Levels at which one parser or another would give up, and at which none does."""


@pytest.mark.parametrize("levels", DEEP)
@pytest.mark.parametrize(
    "body",
    [
        '{"id":"p","metrics":{"a":1.5},"output":%s}',
        '{"output":%s,"logs":"[[{\\"","id":"p","metrics":{"a":1.50e0}}',
        '{"output":%s,"id":"p","metrics":{"a":1.5},"logs":NaN}',
    ],
)
def test_a_too_deeply_nested_output_is_omitted(body: str, levels: int) -> None:
    """It ends all the same, at its exact cost; the same with every parser and interpreter."""
    for nested in ("[" * levels + "]" * levels, '{"]":' * levels + "1" + "}" * levels):
        prediction = decode_prediction((body % nested).encode())
        assert prediction.id == "p"
        assert prediction.metrics == {"a": Decimal("1.5")}
        assert prediction.output is None
        assert prediction.output_too_deep


def test_a_hundred_nesting_levels_are_decoded() -> None:
    """The bound is ours: an output of just as many levels is there whole."""
    nested = "[" * 100 + "]" * 100
    prediction = decode_prediction(b'{"id":"p","output":%s}' % nested.encode())
    assert json.dumps(prediction.output) == nested
    assert not prediction.output_too_deep


def test_brackets_within_strings_do_not_count_as_nesting() -> None:
    """However many there are, and whatever quotes and backslashes stand around them."""
    text = '[{\\"' * 1_000 + "\\" + "[" * 1_000
    assert decode(output=[text]).output == [text]


@pytest.mark.parametrize("levels", DEEP)
def test_a_too_deeply_nested_row_does_not_fail_its_page(levels: int) -> None:
    """The other rows are read as if it were not there, and it too but for its output."""
    nested = b"[" * levels + b"]" * levels
    page = decode_page(
        b'{"next":null,"results":[{"id":"a","metrics":{"t":0.10}},null,'
        b'{"id":"b","output":%s,"input":%s,"metrics":{"t":0.20}},{"id":"c"}]}' % (nested, nested)
    )
    assert [prediction.id for prediction in page.predictions] == ["a", "b", "c"]
    assert [prediction.output_too_deep for prediction in page.predictions] == [False, True, False]
    assert [str((prediction.metrics or {}).get("t")) for prediction in page.predictions[:2]] == [
        "0.10",
        "0.20",
    ]
    assert page.predictions[1].input == {}


@pytest.mark.parametrize("levels", DEEP)
@pytest.mark.parametrize("end", ["", "]" * 50, "]" * 200_000, "}", ']"', ","])
def test_deeply_nested_malformed_json_is_an_unusable_response(levels: int, end: str) -> None:
    """Broken off or garbled: the same answer from every parser."""
    with pytest.raises(NoResponse):
        decode_prediction(('{"id":"p","output":' + "[" * levels + end).encode())


@pytest.mark.parametrize(
    "literal",
    ["9007199254740993", "18446744073709551617", "-9223372036854775809", "9" * 400, "1" * 4_000],
)
def test_integers_in_output_and_input_keep_their_precision(literal: str) -> None:
    """Whatever their size: no double is between."""
    body = f'{{"id":"p","output":[{literal}],"input":{{"seed":{literal}}}}}'.encode()
    prediction = decode_prediction(body)
    assert prediction.output == [int(literal)]
    assert prediction.input == {"seed": int(literal)}


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 5_000])
def test_numbers_out_of_range_become_strings(literal: str) -> None:
    """As they were written."""
    prediction = decode_prediction(f'{{"id":"p","output":{{"n":{literal}}}}}'.encode())
    assert prediction.output == {"n": literal}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("9999-12-31T23:59:59Z", None),
        ("0001-01-01T00:00:00+05:00", None),
        ("9999-12-31T23:59:59-05:00", None),
        ("1969-12-31T23:59:59Z", None),
        ("2262-01-01T00:00:00Z", None),
        ("2261-12-31T23:59:59Z", datetime(2261, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("1970-01-01T05:00:00+05:00", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_timestamps_out_of_range_are_none(text: str, moment: datetime | None) -> None:
    """Nothing behind has to add to them with care."""
    prediction = decode(created_at=text, started_at=text, completed_at=text)
    assert prediction.created_at == prediction.started_at == prediction.completed_at == moment


@pytest.mark.parametrize(
    "rest",
    [
        b'"logs":"\\ud800 lone"',
        b'"logs":"\xff\xfe"',
        b'"logs":"\x01"',
        b'"output":NaN',
        b'"output":1e999',
        b'"output":' + b"9" * 5000,
        b'"urls":"x","metrics":[],"input":"y","logs":[],"model":1,"error":{},"data_removed":"no"',
        b'"urls":{"stream":null},"metrics":null,"input":null,"version":null',
    ],
)
def test_a_valid_id_suffices(rest: bytes) -> None:
    """However odd the rest: what may be paid for must be found again."""
    prediction = decode_prediction(b'{"id":"p1","status":"processing",' + rest + b"}")
    assert prediction.id == "p1"
    assert prediction.status is PredictionStatus.PROCESSING
    prediction.logs.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"p1"',
        b"{}",
        b'{"id":null}',
        b'{"id":5}',
        b'{"id":""}',
        b'{"id":".."}',
        b'{"id":"' + b"x" * 300 + b'"}',
        b'{"id":"p1","status":"star',
        b"<html>502</html>",
    ],
)
def test_a_response_without_an_id_is_unusable(body: bytes) -> None:
    """Nothing can be followed without an id."""
    with pytest.raises(NoResponse):
        decode_prediction(body)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_decode_or_raise_no_response(body: bytes) -> None:
    """Any bytes end in a prediction or in NoResponse."""
    with pytest.raises(NoResponse):
        decode_prediction(body)
    with pytest.raises(NoResponse):
        decode_page(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["status", "model", "input", "output", "error", "logs", "metrics", "created_at", "urls"]
        ),
        JSON,
    )
)
def test_a_valid_id_decodes_whatever_the_other_fields_are(fields: dict[str, object]) -> None:
    """No type of any field stands in the way of the id."""
    assert decode_prediction(json.dumps({**fields, "id": "p1"}).encode()).id == "p1"


def test_malformed_rows_do_not_fail_their_page() -> None:
    """One `aborted` or broken row does not cost the page; metrics stay with their own row."""
    page = decode_page(
        b"""{"previous":null,"next":"https://elsewhere.example/v1/predictions?cursor=cD0yMDI0%3D&x=1",
        "results":[{"id":"a","status":"aborted","metrics":{"predict_time":0.10}},{"status":"failed"},
        null,{"id":"b","metrics":{"predict_time":0.2000}}]}"""
    )
    assert [p.id for p in page.predictions] == ["a", "b"]
    assert [str((p.metrics or {})["predict_time"]) for p in page.predictions] == ["0.10", "0.2000"]
    assert page.next_cursor == "cD0yMDI0="


@pytest.mark.parametrize("following", [5, "https://x/v1/predictions?page=2", "https://[/", {}])
def test_an_invalid_next_link_is_an_unusable_response(following: object) -> None:
    """A list cut short in silence would prove the absence of what exists."""
    with pytest.raises(NoResponse):
        decode_page(json.dumps({"next": following, "results": []}).encode())


def test_the_last_page_has_no_cursor() -> None:
    """Null, empty or missing `next` is the end."""
    for body in (b'{"results":[],"next":null}', b'{"results":[],"next":""}', b'{"results":[]}'):
        assert decode_page(body).next_cursor is None


@pytest.mark.parametrize(
    "output",
    [
        '"text"',
        "[" * 5_000 + "]" * 5_000,
        '["' + "x" * 1_000_000 + '"]',
        "[NaN, Infinity, 1e999]",
        '"\\ud800 \x01"',
        '{"id": "another", "metrics": {"predict_time": 9}, "output": [{"id": 1}]}',
        "9" * 10_000,
    ],
)
def test_quarantine_reads_everything_but_the_output(output: str) -> None:
    """How it ended and what it cost, exactly, whatever stands beside it."""
    body = (
        f'{{"id": "p", "input": {output}, "output": {output}, "logs": "l", "error": {output},'
        f' "urls": {{"stream": "https://a.example"}}, "status": "succeeded",'
        f' "metrics": {{"predict_time": 0.1}}, "completed_at": "2026-01-01T00:00:00Z"}}'
    )
    handling = CrashMark(None, "a")
    handling.skips_output = True
    token = CURRENT_MARK.set(handling)
    try:
        read = decode_prediction(body.encode())
    finally:
        CURRENT_MARK.reset(token)
    assert (read.id, read.status) == ("p", PredictionStatus.SUCCEEDED)
    assert read.metrics == {"predict_time": Decimal("0.1")}
    assert read.completed_at is not None
    assert (read.input, read.output, read.logs, read.error, read.stream_url) == (
        None,
        None,
        "",
        None,
        None,
    )


def test_quarantine_skips_large_members() -> None:
    """Metrics are small, or none that can be read."""
    metrics = json.dumps({"predict_time": 1, "x": "y" * 100_000})
    handling = CrashMark(None, "a")
    handling.skips_output = True
    token = CURRENT_MARK.set(handling)
    try:
        read = decode_prediction(
            f'{{"id": "p", "status": "failed", "metrics": {metrics}}}'.encode()
        )
    finally:
        CURRENT_MARK.reset(token)
    assert read.metrics is None


@pytest.mark.parametrize("escaped", [b'\\"', b'"\\', b'"', b"\\\\", b'\\""'])
def test_scanning_a_truncated_deep_document_is_linear(escaped: bytes) -> None:
    """Each quote was taken for the beginning of a text that has no end: minutes for 64 KiB."""
    body = b'{"id":"p","output":' + b"[" * 200 + b'"' + escaped * 500_000
    with pytest.raises(NoResponse):
        decode_prediction(body)
