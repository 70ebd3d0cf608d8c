"""What each HTTP failure means, how long to wait, and which words of upstream's get through."""

from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.upstream.port import NoResponse, RefusalReason, RequestRefused
from mediagate_server.upstream.replicate.error_mapping import (
    UNEXPLAINED,
    error_for_response,
    parse_invalid_fields,
)

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def failure(status: int, body: bytes = b"", **headers: str) -> RequestRefused | NoResponse:
    sent = httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()})
    error = error_for_response(status, sent, body, NOW)
    assert isinstance(error, RequestRefused | NoResponse)
    return error


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        (400, RefusalReason.INPUT),
        (401, RefusalReason.ACCOUNT),
        (402, RefusalReason.ACCOUNT),
        (403, RefusalReason.ACCOUNT),
        (404, RefusalReason.NOT_FOUND),
        (405, RefusalReason.OTHER),
        (409, RefusalReason.OTHER),
        (410, RefusalReason.OTHER),
        (413, RefusalReason.INPUT),
        (422, RefusalReason.INPUT),
        (429, RefusalReason.THROTTLED),
        (451, RefusalReason.OTHER),
    ],
)
def test_definite_refusals(status: int, refusal: RefusalReason) -> None:
    """Nothing was taken, whatever the body looks like."""
    for body in (b"", b"<html>", b"[1]", b"null", b'{"detail":"x"}', b"\xff"):
        error = failure(status, body)
        assert isinstance(error, RequestRefused)
        assert (error.refusal, error.http_status) == (refusal, status)


@pytest.mark.parametrize(
    "status", [301, 302, 304, 307, 308, 408, 499, 500, 502, 503, 504, 599, 999]
)
def test_ambiguous_statuses(status: int) -> None:
    """Redirects, gateways that gave up and servers that failed: the request may have been taken."""
    error = failure(status, b'{"detail":"x"}')
    assert isinstance(error, NoResponse)
    assert error.http_status == status


PROBLEM = b'{"title":"Internal server error","detail":"x","status":500}'


@pytest.mark.parametrize(
    ("status", "body", "kind", "api_error"),
    [
        (500, PROBLEM, "application/problem+json", True),
        (500, b'{"detail":"x"}', "application/json; charset=utf-8", True),
        (500, b'{"title":"Internal server error"}', "application/json", True),
        (503, b'{"detail":"busy","status":503,"retry_after":3}', "Application/JSON", True),
        (500, PROBLEM, "text/html", False),
        (500, PROBLEM, "", False),
        (503, PROBLEM, "application/json", False),
        (500, b"<html>", "application/json", False),
        (500, b"", "application/json", False),
        (500, b"{}", "application/json", False),
        (500, b'["x"]', "application/json", False),
        (500, b'{"detail":{"x":1}}', "application/json", False),
        (500, b'{"message":"Internal server error"}', "application/json", False),
        (500, b'{"detail":"x","status":500,"ray_id":"8f"}', "application/problem+json", False),
        (502, b'{"detail":"x","status":502}', "application/json", False),
        (504, b'{"detail":"x"}', "application/json", False),
        (520, b'{"detail":"x"}', "application/json", False),
        (408, b'{"detail":"x"}', "application/json", False),
    ],
)
def test_a_server_error_is_definite_only_in_the_apis_own_json(
    status: int, body: bytes, kind: str, *, api_error: bool
) -> None:
    """A 500 or 503 in its own JSON, and nothing that a proxy may have written."""
    error = failure(status, body, **({"Content_Type": kind} if kind else {}))
    assert isinstance(error, NoResponse)
    assert error.api_error is api_error


LOW_CREDIT = (
    b'{"detail":"Your rate is reduced to 6 requests per minute with a burst of 1 requests while '
    b'you have less than $5.0 in credit. Your rate limit resets in ~5s.","status":429,'
    b'"retry_after":7}'
)


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        (LOW_CREDIT, {"Retry_After": "3", "ratelimit_reset": "9"}, 3.0),
        (LOW_CREDIT, {"ratelimit_reset": "9"}, 7.0),
        (b"", {"Retry_After": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30.0),
        (b"", {"Retry_After": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0.0),
        (b'{"retry_after":2.5}', {"Retry_After": "later"}, 2.5),
        (b'{"retry_after":"4"}', {}, 4.0),
        (
            b'{"detail":"Request was throttled. Your rate limit resets in ~30s."}',
            {"ratelimit_reset": "9"},
            10.0,
        ),
        (b'{"detail":"Your rate limit resets in ~4s."}', {"ratelimit_reset": "9"}, 4.0),
        (b"<html>", {"ratelimit_reset": "60"}, 10.0),
        (b"", {"Retry_After": "Sun, 22 Nov 2026 12:20:00 GMT"}, 60.0),
        (b"", {"Retry_After": "3600"}, 60.0),
        (b'{"retry_after":7200}', {}, 60.0),
        (
            b"",
            {
                "Retry_After": "Sun, 22 Nov 2026 17:00:30 GMT",
                "Date": "Sun, 22 Nov 2026 17:00:00 GMT",
            },
            30.0,
        ),
        (b"", {"Retry_After": "Mon, 99 Foo 99999 99:99:99 ZZZ", "Date": "yesterday"}, None),
        (b"", {"Retry_After": "-5", "Date": ""}, None),
        (b'{"retry_after":[5],"detail":{"resets in":"~5s"}}', {"Retry_After": "1e999"}, None),
        (b"<html>", {"ratelimit_reset": "9"}, 9.0),
        (b"", {}, None),
        (b'{"retry_after":true}', {}, None),
        (b'{"retry_after":-1}', {"Retry_After": "nan"}, None),
        (b'{"retry_after":1e9}', {"ratelimit_reset": "1700000000"}, None),
    ],
)
def test_sources_of_the_retry_delay(
    body: bytes, headers: dict[str, str], seconds: float | None
) -> None:
    """Header, then body, then text, then the reset header; never a wait that cannot be meant.

    What is told to reset is full then: the next token comes within ten seconds.
    """
    error = failure(429, body, **headers)
    assert isinstance(error, RequestRefused)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("body", "rate"),
    [
        (LOW_CREDIT, 6),
        (b'{"detail":"Request was throttled. Your rate limit resets in ~30s."}', None),
        (b'{"detail":"reduced to 0 requests per minute"}', None),
        (b'{"detail":"reduced to 1234567 requests per minute"}', None),
        (b'{"detail":["6 requests per minute"]}', 6),
        (b'{"detail":null}', None),
        (b"<html>6 requests per minute", None),
    ],
)
def test_the_reduced_rate_of_an_account(body: bytes, rate: int | None) -> None:
    """Only where a 429 of the API's own says so, and only what can be meant."""
    error = failure(429, body)
    assert isinstance(error, RequestRefused)
    assert error.per_minute == rate
    other = failure(422, body)
    assert isinstance(other, RequestRefused)
    assert other.per_minute is None


def test_only_throttling_has_a_retry_delay() -> None:
    """A wait on any other refusal would be misread as a promise that it then works."""
    error = failure(422, b"{}", Retry_After="5")
    assert isinstance(error, RequestRefused)
    assert error.retry_after is None


def test_fields_listed_by_upstream() -> None:
    """The property is named, not the object that lacks it."""
    error = failure(
        422,
        b'{"title":"Input validation failed","detail":"- input: prompt is required\\n",'
        b'"status":422,'
        b'"invalid_fields":[{"type":"required","field":"input","description":"prompt is required"},'
        b'{"field":"input.num_outputs","description":"Must be less than or equal to 4"},'
        b'{"field":"input","description":"Additional property promt is not allowed"}]}',
    )
    assert isinstance(error, RequestRefused)
    assert error.invalid_fields == {
        "prompt": "is required",
        "num_outputs": "Must be less than or equal to 4",
        "promt": "is not an input of the model",
    }


def test_fields_parsed_from_the_detail_text() -> None:
    """Without the list, the lines of `detail` say the same."""
    assert parse_invalid_fields(
        {
            "detail": "- input: prompt is required\n- input.width: Invalid type. "
            "Expected: integer, given: string\n- input.aspect_ratio: input.aspect_ratio must be "
            'one of the following: "1:1", "16:9"\nGo to: https://replicate.com/account/billing'
        }
    ) == {
        "prompt": "is required",
        "width": "Invalid type. Expected: integer, given: string",
        "aspect_ratio": 'must be one of the following: "1:1", "16:9"',
    }


@pytest.mark.parametrize(
    "description",
    [
        "see https://replicate.com/account/billing",
        'must be one of the following: "https://replicate.delivery/x"',
        "Must be less than r8_0123456789abcdef",
        "replicate-internal/llama-3 does not like this",
        "Must be less than 4\nand more",
        "x" * 10_000,
        "",
    ],
)
def test_upstreams_wording_is_replaced(description: str) -> None:
    """The field is still named; why is a fixed sentence."""
    listed = {"invalid_fields": [{"field": "input.prompt", "description": description}]}
    assert parse_invalid_fields(listed) == {"prompt": UNEXPLAINED}


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_url_or_markup_reaches_the_caller(field: str, description: str) -> None:
    """Whatever upstream writes, no name or reason holds a link, a tag or a path."""
    hostile = [(field, f"{description}https://a.b/c"), (f"{field}/x", description)]
    for name, words in hostile:
        error = parse_invalid_fields({"invalid_fields": [{"field": name, "description": words}]})
        assert not any("/" in text or "<" in text for pair in error.items() for text in pair)


@pytest.mark.parametrize("listed", [5, [5], [None], [{}], [{"field": 5}], [{"field": "a b"}]])
def test_malformed_error_lists_are_ignored(listed: object) -> None:
    """Odd shapes are passed over."""
    assert parse_invalid_fields({"invalid_fields": listed}) == {}
