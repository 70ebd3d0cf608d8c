"""What each option of the connections to upstream does, as upstream sees it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from mediagate_server.upstream.replicate.client import ReplicateClient
from mediagate_server.upstream.settings import ReplicateSettings

from .conftest import Handler

Serve = Callable[[Handler], Awaitable[str]]

PREDICTION = {"id": "p1", "status": "processing"}


def settings(url: str, **more: float) -> ReplicateSettings:
    """Those of a client in front of an upstream on loopback."""
    return ReplicateSettings(base_url=url, token=None, **more)  # type: ignore[arg-type]


async def test_cookies_are_not_stored(serve: Serve) -> None:
    """What upstream sets is not sent back: no two calls have anything in common."""
    heard: list[str | None] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        heard.append(request.headers.get("Cookie"))
        return web.json_response(PREDICTION, headers={"Set-Cookie": "who=we; Path=/"})

    async with ReplicateClient(settings(await serve(answer))) as client:
        for _ in range(2):
            await client.get("p1")
    assert heard == [None, None]


async def test_proxy_variables_are_ignored(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    """Requests carry the token: they go where the operator has said, and nowhere else."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_tcp_port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(PREDICTION)

    async with ReplicateClient(settings(await serve(answer))) as client:
        assert (await client.get("p1")).id == "p1"


async def test_netrc_is_ignored(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A .netrc would send one to whatever upstream it names."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    heard: list[str | None] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        heard.append(request.headers.get("Authorization"))
        return web.json_response(PREDICTION)

    async with ReplicateClient(settings(await serve(answer))) as client:
        await client.get("p1")
    assert heard == [None]


@pytest.mark.parametrize(("idle", "connections"), [(59.0, 1), (61.0, 2)])
async def test_idle_connections_expire(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, idle: float, connections: int
) -> None:
    """An idle one that upstream may have closed by now is not."""
    now = 1_000.0
    monkeypatch.setattr(aiohttp.connector, "monotonic", lambda: now)
    peers: set[object] = set()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.json_response(PREDICTION)

    async with ReplicateClient(settings(await serve(answer), keepalive=60.0)) as client:
        await client.get("p1")
        now += idle
        await client.get("p1")
    assert len(peers) == connections


async def test_the_number_of_connections_is_limited(serve: Serve) -> None:
    """Whoever comes beyond waits for one of them."""
    open_now, most, go_on = 0, 0, asyncio.Event()

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        if most == 2:
            go_on.set()
        await go_on.wait()
        open_now -= 1
        return web.json_response(PREDICTION)

    async with ReplicateClient(settings(await serve(answer), max_connections=2)) as client:
        await asyncio.gather(*(client.get("p1") for _ in range(6)))
    assert most == 2
