"""Ways to write a host that is not of the public internet, and whoever comes to this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

FORMS = """
127.0.0.1 127.1 127.0.1 127.127.127.127 0.0.0.0 0 0x0
2130706433 017700000001 0x7f000001 0x7F.0.0.1 0177.0.0.1 0177.0.0.01 0x7f.1 00000177.1 127.0x0.0x1
3232235777 2852039166 167772161 0xa9fea9fe 0251.0376.0251.0376
localhost LOCALHOST localhost. a.localhost 127.0.0.1. ip6-localhost
10.0.0.1 10.1 172.16.0.1 172.31.255.254 192.168.0.1 192.168.1
169.254.169.254 169.254.1.1 100.64.0.1 100.127.255.254 198.18.0.1 192.0.0.8 192.0.2.1 198.51.100.1
203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 192.88.99.1
[::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:10.0.0.1] [::127.0.0.1]
[::ffff:0:127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1] [64:ff9b::a9fe:a9fe] [64:ff9b:1::1]
[2002:7f00:1::] [2002:a00:1::1] [2001:0:7f00:1::] [fe80::1] [fe80::1%25lo] [fec0::1] [fc00::1]
[fd00:ec2::254] [ff02::1] [2001:db8::1] [3fff::1] [100::1]
%31%32%37.0.0.1 127%2e0%2e0%2e1
"""
HOSTS = FORMS.split()
OF_OTHER_SCRIPTS = ["①②⑦.⓪.⓪.①", "\uff11\uff12\uff17.\uff10.0.1", "127。0。0。1", "ⓛocalhost"]


@asynccontextmanager
async def listening_everywhere() -> AsyncIterator[tuple[int, list[object]]]:
    """One port on every address of this machine, both families; who came there."""
    came: list[object] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer.get_extra_info("peername"))
        writer.close()

    async with AsyncExitStack() as stack:
        first = await asyncio.start_server(note, "0.0.0.0", 0)  # noqa: S104 - to see all
        await stack.enter_async_context(first)
        port: int = first.sockets[0].getsockname()[1]
        if socket.has_ipv6:
            second = await asyncio.start_server(note, "::", port)
            await stack.enter_async_context(second)
        yield port, came
