"""URLs that others gave us are asked for letter for letter: a signature may depend on each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from yarl import URL

from mediagate_sandbox.files import render_file
from mediagate_sandbox.generators.spec import ImageRecipe
from mediagate_server.media.downloader import DownloadFailed, MediaDownloader
from mediagate_server.network import request_url
from mediagate_server.network.request_url import parse_request_url, resolve_redirect
from mediagate_server.upstream.replicate.client import ReplicateClient
from mediagate_server.webhooks.http_client import WebhookHttpClient
from tests.builders import image_request
from tests.media.file_server import file
from tests.sse_batches import collect_batches
from tests.upstream.replicate.adapter_requests import settings
from tests.webhooks.manual_clock_dispatcher import LOOPBACK

from .scripted_upstream import ScriptedUpstream, prediction, says
from .stubs import Stubs

TARGETS = [
    "/a%2Cb/c%2Fd/e%3Af/~g/%7Eh/i+j/k%20l/m%2en/%2E%2E/o",
    "/lower%2c%2f%3a/UPPER%2C%2F%3A/mixed%2f%2F",
    "/with;parameters;v=1/and,commas/and:colons/@at/$dollar/!bang/'quote'/(round)/*star",
    "/?",
    "/empty?",
    "/a?a=1&&b",
    "/a?&",
    "/a?a=%2C%2F%3A~%7E+%20%2e&X-Amz-Signature=0aF&X-Goog-Algorithm=GOOG4-RSA-SHA256",
    "/a?b=2&a=1&a=&=&c==&d=e=f;g=h",
    "/a?q=/?:@,'()*!;[]{}|^`\"<>",
    "//double//slashes/",
    "/dots/./and/../more/..",
    "/%",
    "/%zz%4",
    "/%E4%B8%AD/%e4%b8%ad?%C3%BC=%c3%bc",
]
"""As they stand in a request line."""


@dataclass
class RawServer:
    """Notes request lines, byte for byte; answers by path, 200 with some bytes else."""

    url: str = ""
    lines: list[str] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)
    usual: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        self.lines.append(target)
        answer = self.answers.get(target, self.usual)
        writer.write(answer if method != "HEAD" else answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        writer.close()


@asynccontextmanager
async def raw_server() -> AsyncIterator[RawServer]:
    """On a free port of loopback."""
    raw = RawServer()
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    raw.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield raw


def moved(location: str) -> bytes:
    """A redirect."""
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    return head.encode("utf-8", "surrogateescape")


def fetcher(upstream: str) -> MediaDownloader:
    """What fetches outputs."""
    return MediaDownloader(upstream, idle_timeout=lambda: 5.0)


async def test_output_and_redirect_urls_are_unchanged() -> None:
    """Also by a HEAD, and where an absolute redirect leads."""
    async with raw_server() as raw, fetcher(raw.url) as fetching:
        for target in TARGETS:
            raw.lines.clear()
            async with fetching.open(f"{raw.url}{target}#part") as file:
                assert b"".join([chunk async for chunk in file.chunks]) == b"abc"
            assert await fetching.exists(raw.url + target)
            raw.answers["/moved"] = moved(raw.url + target)
            async with fetching.open(f"{raw.url}/moved") as file:
                assert [chunk async for chunk in file.chunks]
            assert raw.lines == [target, target, "/moved", target]


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/x%2Cy/../z?%7E&&", "/x%2Cy/../z?%7E&&"),
        ("n%2Cm", "/a%2C/n%2Cm"),
        ("../n%2Cm?~=%7E", "/n%2Cm?~=%7E"),
        ("./x//y;p=%2C", "/a%2C/x//y;p=%2C"),
        ("x/..", "/a%2C/"),
        ("../../../../up", "/up"),
        ("?q=%2C", "/a%2C/b?q=%2C"),
        ("?", "/a%2C/b?"),
        ("n?../m", "/a%2C/n?../m"),
        ("n?url=https://x/%2C", "/a%2C/n?url=https://x/%2C"),
        ("//{host}/c%2Cd", "/c%2Cd"),
        ("/\udcc3\udca4 b?\udcfc", "/%C3%A4%20b?%FC"),
    ],
)
async def test_relative_redirects_are_unchanged(location: str, target: str) -> None:
    """Of a path only dots are resolved; bytes that no request line holds are percent-encoded."""
    async with raw_server() as raw, fetcher(raw.url) as fetching:
        raw.answers["/a%2C/b?old=%2C"] = moved(location.format(host=raw.url[7:]))
        async with fetching.open(f"{raw.url}/a%2C/b?old=%2C") as file:
            assert [chunk async for chunk in file.chunks]
        assert raw.lines[1:] == [target]


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:1/a",
        "//127.0.0.1:1/a",
        "http://user@{host}/a",
        "http://@{host}/a",
        "https://{host}/a",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "http:/a",
        "http://",
        "http:\\\\{host}/a",
        "http://{host}\\@elsewhere/a",
    ],
)
async def test_redirects_to_other_origins_are_refused(location: str) -> None:
    """However they are written."""
    async with raw_server() as raw, fetcher(raw.url) as fetching:
        raw.answers["/a"] = moved(location.format(host=raw.url[7:]))
        with pytest.raises(DownloadFailed) as failed:
            async with fetching.open(f"{raw.url}/a"):
                pass
        assert not failed.value.is_transient
        assert raw.lines == ["/a"]


async def test_webhook_urls_are_unchanged() -> None:
    """To where the caller said."""
    async with raw_server() as raw, WebhookHttpClient(LOOPBACK) as poster:
        for target in TARGETS:
            assert await poster.post(raw.url + target, {}, b"{}") == 200
        assert raw.lines == TARGETS


async def test_stream_urls_are_unchanged() -> None:
    """Upstream's own address of the stream."""
    async with raw_server() as raw:
        raw.usual = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            b"event: done\ndata: {}\n\n"
        )
        async with ReplicateClient(settings(raw.url)) as client:
            for target in TARGETS:
                async with client.stream(raw.url + target) as stream:
                    assert (await collect_batches(stream)).events
        assert raw.lines == TARGETS


@pytest.mark.parametrize(
    ("given", "request_target"),
    [
        ("http://h", "http://h/"),
        ("http://h?a", "http://h/?a"),
        ("http://h#a?b", "http://h/"),
        ("  HTTP://Host.Example/A%2C\n", "http://host.example/A%2C"),
        ("http://bücher.example/ä b?ü=%2C", "http://xn--bcher-kva.example/%C3%A4%20b?%C3%BC=%2C"),
        ("http://日本語.example/", "http://xn--wgv71a119e.example/"),
        ("http://\uff21\uff22.example\u3002/", "http://ab.example./"),
        ("http://h/a\tb\r\nHost: x", "http://h/abHost:%20x"),
    ],
)
def test_characters_invalid_in_a_request_line_are_encoded(given: str, request_target: str) -> None:
    """Hosts as IDNA, other letters as UTF-8; nothing else is touched."""
    assert str(parse_request_url(given)) == request_target


@pytest.mark.parametrize(
    "given",
    ["", "a/b", "//h/a", "http:///a", "http://", "http://u@h/", "http://@h/", "http://h:99999/",
     "http://h/\ud800", "http://a b/", "http://[::1/", "http://" + "ü" * 80 + ".example/"],
)  # fmt: skip
def test_malformed_urls_raise_value_error(given: str) -> None:
    """ValueError alone, whatever is wrong."""
    with pytest.raises(ValueError, match=r"."):
        parse_request_url(given)


def test_an_empty_redirect_is_the_same_url() -> None:
    """With the query that it had."""
    seen = parse_request_url("http://h/a%2C?b=%2C")
    assert resolve_redirect(seen, "") == resolve_redirect(seen, "#c") == seen


async def test_an_output_link_is_unchanged_through_the_server(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Through the server; and the caller is shown the very same link."""
    request_targets: list[str] = []
    serve = file(render_file(ImageRecipe("a/b", "x", 1, 320, 192, "png")), "image/png")

    async def answer(request: web.Request) -> web.StreamResponse:
        request_targets.append(request.raw_path)
        return await serve(request)

    target = "/out%2Cput/~a%7E.png?X-Goog-Signature=%2F%2B~&&x"
    scripted_upstream.files.put(URL(target, encoded=True).path, answer)
    metrics = {"image_output_count": 1, "predict_time": 1.0}
    done = prediction(
        scripted_upstream, "succeeded", output=[scripted_upstream.url + target], metrics=metrics
    )
    scripted_upstream.creates = [says(done, 201)]
    generation = (await stubs.image.GenerateImage(image_request(prompt="x"))).generation
    (image,) = generation.images.images
    assert request_targets == [target]
    assert image.uri == scripted_upstream.url + target
    assert image.id


def test_oversized_origins_are_not_cached() -> None:
    """Origins are remembered; how many bytes, nobody outside decides."""
    before = request_url._parse_origin_cached.cache_info().currsize
    for letter in "abc":
        assert parse_request_url(f"https://{letter * 300}.example/x").raw_path == "/x"
    assert request_url._parse_origin_cached.cache_info().currsize == before
