"""What aiohttp's options do for whoever connects to the server's two HTTP ports."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mediagate_server.http import servers
from mediagate_server.http import servers as web
from mediagate_server.http.servers import OperationsHttpServer, PublicHttpServer

PORTS: dict[str, tuple[Any, Callable[[], Any]]] = {
    "operations": (servers, lambda: OperationsHttpServer("127.0.0.1:0", lambda: "")),
    "web": (web, lambda: PublicHttpServer("127.0.0.1:0")),
}


@pytest.mark.parametrize("name", PORTS)
async def test_an_idle_connection_is_closed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once nothing was asked of it for as long as the option says; before, it is used again."""
    module, opened = PORTS[name]
    monkeypatch.setattr(module, f"_{'PUBLIC' if name == 'web' else 'OPERATIONS'}_IDLE_SECONDS", 0.2)
    async with opened() as serving, asyncio.timeout(20):
        host, _, number = serving.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(number))
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            _, _, rest = head.partition(b"content-length: ")
            await reader.readexactly(int(rest.split(b"\r\n")[0]))
            assert head.startswith(b"http/1.1 ")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
