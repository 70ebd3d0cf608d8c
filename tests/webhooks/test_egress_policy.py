"""Wherever a URL points: not one connection to an address that is not of the public internet."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from mediagate.v1.options_pb2 import GenerationOptions
from mediagate.v1.text_pb2 import GenerateTextRequest
from mediagate_server.api.interceptors.request_validation import ValidationInterceptor
from mediagate_server.errors import InvalidRequest
from mediagate_server.network.egress_policy import EgressPolicy
from mediagate_server.webhooks.http_client import NO_RESPONSE, WebhookHttpClient

from .private_hosts import HOSTS, OF_OTHER_SCRIPTS, listening_everywhere
from .webhook_receiver import Receiver

TARGETS = [f"https://{host}" for host in (*HOSTS, *OF_OTHER_SCRIPTS)]


@pytest.fixture
async def listeners() -> AsyncIterator[tuple[int, list[object]]]:
    """One port on every address of this machine, and who came there."""
    async with listening_everywhere() as listening:
        yield listening


def refused(url: str, reach: EgressPolicy = EgressPolicy()) -> str:  # noqa: B008 - it never changes
    """What is wrong with a webhook_url, before anything is stored; empty where nothing is."""
    request = GenerateTextRequest(prompt="x", options=GenerationOptions(webhook_url=url))
    try:
        ValidationInterceptor(webhooks=reach).check(request)
    except InvalidRequest as error:
        (violation,) = error.failure.violations
        assert violation.field == "options.webhook_url"
        return violation.description
    return ""


def test_there_are_sixty_url_forms() -> None:
    """Sixty forms, at least, each another."""
    assert len(set(TARGETS)) == len(TARGETS) >= 60


async def test_no_url_form_reaches_a_private_address(
    listeners: tuple[int, list[object]],
) -> None:
    """Each is refused where it is given; were it not, it would still not be connected to."""
    port, came = listeners
    accepted_urls = [url for url in TARGETS if not refused(f"{url}:{port}/hook")]
    # A name may be anybody's; whose it is is seen when it is resolved.
    assert accepted_urls == ["https://ip6-localhost"]
    async with WebhookHttpClient(EgressPolicy()) as poster:
        for url in TARGETS:
            for scheme in ("https", "http"):
                target = f"{scheme}{url.removeprefix('https')}:{port}/hook"
                assert await poster.post(target, {}, b"{}") == NO_RESPONSE
    assert not came


async def test_the_socket_check_refuses_every_form(
    listeners: tuple[int, list[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the look at the URL taken away, what the library makes of it is still looked at."""
    port, came = listeners
    monkeypatch.setattr(EgressPolicy, "allows_host", lambda *_, **__: True)
    async with WebhookHttpClient(EgressPolicy(), timeout=5) as poster:
        for url in TARGETS:
            assert await poster.post(f"{url}:{port}/hook", {}, b"{}") == NO_RESPONSE
    assert not came


class Changing(AbstractResolver):
    """A name server that says something else at each look."""

    def __init__(self, *answers: list[str]) -> None:
        self.lookup_count = 0
        self._answers = answers

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = self._answers[min(self.lookup_count, len(self._answers) - 1)]
        self.lookup_count += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["127.0.0.1", "::1"]],
)
async def test_names_that_resolve_to_private_addresses(
    listeners: tuple[int, list[object]], addresses: list[str]
) -> None:
    """Whatever a name server says; and it is asked again for each post."""
    port, came = listeners
    resolver = Changing(addresses)
    async with WebhookHttpClient(EgressPolicy(), resolver=lambda: resolver) as poster:
        for _ in range(3):
            url = f"https://hooks.example.com:{port}/hook"
            assert await poster.post(url, {}, b"{}") == NO_RESPONSE
    assert resolver.lookup_count == 3
    assert not came


async def test_the_checked_address_is_the_one_connected_to(receiver: Receiver) -> None:
    """A second look, which would lead elsewhere, is not taken. The name stays in Host."""
    port = receiver.url.rsplit(":", 1)[1].removesuffix("/hook")
    resolver = Changing(["127.0.0.1"], ["10.0.0.1"])
    reach = EgressPolicy((ip_network("127.0.0.0/8"),))
    async with WebhookHttpClient(reach, resolver=lambda: resolver) as poster:
        url = f"http://hooks.example.com:{port}/hook"
        assert await poster.post(url, {"webhook-id": "x"}, b"{}") == 200
        assert await poster.post(url, {}, b"{}") == NO_RESPONSE
    (got,) = receiver.all
    assert got.headers["Host"] == f"hooks.example.com:{port}"
    assert "Authorization" not in got.headers
    assert "Cookie" not in got.headers


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "ftp://example.com/hook",
        "file:///etc/passwd",
        "gopher://example.com/_x",
        "data:text/plain,x",
        "unix:///run/x.sock",
        "//example.com/hook",
        "example.com/hook",
        "https:///hook",
        "https://example.com:0/hook",
        "https://example.com:99999/hook",
        "https://user@example.com/hook",
        "https://user:word@example.com/hook",
        "https://example.com@127.0.0.1/hook",
        "https://[::1/hook",
        "https://exa mple.com/hook",
        "https://example.com\\@127.0.0.1/hook",
        "https://example.com/\n",
        f"https://example.com/{'x' * 2_048}",
    ],
)
async def test_other_urls_are_refused_by_field(url: str) -> None:
    """Refused by name of the field, and its words do not repeat it."""
    words = refused(url)
    assert words
    assert "example" not in words
    async with WebhookHttpClient(EgressPolicy()) as poster:
        if not url.startswith("https://example.com/"):
            assert await poster.post(url, {}, b"{}") == NO_RESPONSE


def test_public_urls_are_accepted() -> None:
    """With a port, a query, whatever the path."""
    for url in (
        "https://example.com/hook",
        "https://hooks.example.com:8443/a/b?c=d#e",
        "https://93.184.216.34/hook",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/hook",
        "https://xn--bcher-kva.example/hook",
        "https://bücher.example/hook",
    ):
        assert not refused(url), url


def test_allowed_networks() -> None:
    """His networks, also by plain http; nothing that is not in them."""
    reach = EgressPolicy((ip_network("10.0.0.0/8"), ip_network("::1/128")))
    for url in (
        "https://10.1.2.3/hook",
        "http://10.1.2.3:8080/hook",
        "http://[::ffff:10.1.2.3]/hook",
        "http://[::1]/hook",
        "http://localhost/hook",
        "http://hooks.internal/hook",
        "https://example.com/hook",
    ):
        assert not refused(url, reach), url
    for url in (
        "https://127.0.0.1/hook",
        "http://192.168.0.1/hook",
        "http://93.184.216.34/hook",
        "http://167772161/hook",
        "http://user@10.1.2.3/hook",
        "ftp://10.1.2.3/hook",
    ):
        assert refused(url, reach), url
    assert not reach.allows_address("93.184.216.34", plaintext=True)
    assert reach.allows_address("93.184.216.34")


async def test_response_bodies_are_not_read(receiver: Receiver) -> None:
    """However long they are: the status is all that is wanted."""
    receiver.headers = {"Content-Encoding": "gzip"}
    receiver.status = 404
    async with WebhookHttpClient(EgressPolicy((ip_network("127.0.0.0/8"),))) as poster:
        assert await poster.post(receiver.url, {}, b"{}") == 404
