"""Where requests may go: routes by target, ids that stay one segment, hosts of streams."""

from datetime import datetime, timedelta, timezone

import pytest
from yarl import URL

from mediagate_server.upstream.port import RefusalReason, RequestRefused
from mediagate_server.upstream.replicate.api_urls import (
    create_endpoint,
    format_instant,
    parse_stream_url,
    prediction_path,
)
from mediagate_server.upstream.settings import ReplicateSettings, api_root

HEX = "9dcd6d78e7c6560c340d916fe32e9f24aabfa331e5cce95fe31f77fb03121426"


@pytest.mark.parametrize(
    ("base_url", "root"),
    [
        ("https://api.replicate.com", "https://api.replicate.com/v1"),
        ("https://api.replicate.com/v1", "https://api.replicate.com/v1"),
        ("https://api.replicate.com/v1/", "https://api.replicate.com/v1"),
        ("http://127.0.0.1:8787", "http://127.0.0.1:8787/v1"),
        ("http://127.0.0.1:8787/", "http://127.0.0.1:8787/v1"),
        ("http://proxy:8000/replicate", "http://proxy:8000/replicate/v1"),
        ("http://proxy:8000/replicate/v1", "http://proxy:8000/replicate/v1"),
        ("http://[::1]:8787", "http://[::1]:8787/v1"),
    ],
)
def test_the_base_url_ends_in_v1(base_url: str, root: str) -> None:
    """`/v1` is added where the path does not end in it."""
    assert api_root(base_url) == root


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.replicate.com",
        "ftp://api.replicate.com",
        "https://",
        "https://user:secret@api.replicate.com",
        "https://api.replicate.com?a=b",
        "https://api.replicate.com#x",
        "https://api.replicate.com:99999",
    ],
)
def test_an_invalid_base_url_is_refused(base_url: str) -> None:
    """When the settings are made, not at the first request."""
    with pytest.raises(ValueError, match=r"^(?!.*secret)") as refused:
        ReplicateSettings(base_url=base_url)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("token", ["", "r8_a b", "r8_x\n", "r8_é"])
def test_an_invalid_token_is_refused_and_not_shown(token: str) -> None:
    """The error does not show it, and neither does the settings' own text."""
    with pytest.raises(ValueError, match=r"^(?!.*r8_).*characters"):
        ReplicateSettings(token=token)
    assert "r8_secret" not in repr(ReplicateSettings(token="r8_secret"))


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("meta/llama-3-70b", ("/models/meta/llama-3-70b/predictions", None)),
        ("lucataco/a.b_c-d", ("/models/lucataco/a.b_c-d/predictions", None)),
        ("deployments/acme/ours", ("/deployments/acme/ours/predictions", None)),
        (f"stability-ai/sdxl:{HEX}", ("/predictions", f"stability-ai/sdxl:{HEX}")),
        (HEX, ("/predictions", HEX)),
    ],
)
def test_routes_of_predictions(target: str, route: tuple[str, str | None]) -> None:
    """Official models and deployments by path, anything pinned by the body's version."""
    assert create_endpoint(target) == route


@pytest.mark.parametrize(
    "target",
    [
        "",
        "llama",
        "a/b/c",
        "../account",
        "a/..",
        "a/b?x=1",
        "a/b#x",
        "a/b:",
        "a/b:c/d",
        "a b/c",
        "é/b",
    ],
)
def test_an_empty_target_is_refused(target: str) -> None:
    """Nothing is sent to a path that only looks like a model."""
    with pytest.raises(RequestRefused) as refused:
        create_endpoint(target)
    assert refused.value.refusal is RefusalReason.NOT_FOUND


def test_ids_are_quoted_as_one_segment() -> None:
    """Slashes, queries and percent signs are quoted; dots alone name nothing."""
    assert prediction_path("gm3qorzdhg") == "/predictions/gm3qorzdhg"
    assert prediction_path("a/../b?c#d%2F é") == "/predictions/a%2F..%2Fb%3Fc%23d%252F%20%C3%A9"
    for nothing in ("", ".", ".."):
        with pytest.raises(RequestRefused):
            prediction_path(nothing)


def test_timestamps_are_utc() -> None:
    """As the list's filters take them."""
    assert format_instant(datetime.fromisoformat("2025-01-01T12:30:00")) == "2025-01-01T12:30:00Z"
    tokyo = timezone(timedelta(hours=9))
    assert (
        format_instant(datetime(2025, 1, 1, 0, 0, 0, 5, tzinfo=tokyo))
        == "2024-12-31T15:00:00.000005Z"
    )


@pytest.mark.parametrize(
    ("root", "stream"),
    [
        ("https://api.replicate.com/v1", "https://stream.replicate.com/v1/files/x"),
        (
            "https://api.replicate.com/v1",
            "https://streaming-api.svc.us.c.replicate.net/v1/streams/x",
        ),
        ("https://api.replicate.com/v1", "https://STREAM.Replicate.COM:443/x"),
        ("https://api.replicate.com/v1", "https://api.replicate.com/x"),
        ("http://127.0.0.1:8787/v1", "http://127.0.0.1:8787/streams/x?y=1"),
        ("https://gate.example:8443/v1", "https://gate.example:8443/s"),
    ],
)
def test_stream_urls_of_upstream(root: str, stream: str) -> None:
    """Its own origin, and Replicate's streaming hosts over https."""
    assert parse_stream_url(stream, URL(root)) == URL(stream)


@pytest.mark.parametrize(
    "stream",
    [
        "",
        "/v1/streams/x",
        "http://127.0.0.1:8788/x",
        "https://127.0.0.1:8787/x",
        "http://localhost:8787/x",
        "http://user:pass@127.0.0.1:8787/x",
        "http://stream.replicate.com/x",
        "https://stream.replicate.com:8443/x",
        "https://replicate.com.evil.example/x",
        "https://evilreplicate.com/x",
        "https://stream.replicate.com@evil.example/x",
        "https://evil.example/.replicate.com",
        "https://evil.example\\.replicate.com/x",
        "https://evil.example#.replicate.com",
        "file:///etc/passwd",
        "http://[",
        "https://x.replicate.com:notaport/",
    ],
)
def test_stream_urls_of_other_hosts_are_refused(stream: str) -> None:
    """An answer cannot point the gate at another machine."""
    with pytest.raises(RequestRefused) as refused:
        parse_stream_url(stream, URL("http://127.0.0.1:8787/v1"))
    assert refused.value.refusal is RefusalReason.OTHER
