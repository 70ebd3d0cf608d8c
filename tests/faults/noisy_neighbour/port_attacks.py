"""Attacks by strangers, who have no key: on the web port, the operations port and gRPC's."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import httpx

from .attack import Attack, Attacker, attack
from .request_attacks import run

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def connect(attacker: Attacker, address: str, talk: Talk, *, at_once: int) -> None:
    """So many connections, each made anew when it ends, until the time is over."""
    host, _, port = address.rpartition(":")

    async def again() -> None:
        while attacker.seconds_left:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(host, int(port))
                attacker.answers["connections"] += 1
                try:
                    async with asyncio.timeout(attacker.seconds_left):
                        await talk(reader, writer)
                except TimeoutError:
                    pass
                finally:
                    writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(again())


def webhook_head(token: str) -> bytes:
    """The head of a webhook that anybody could write."""
    lines = (
        f"POST /webhooks/replicate/{token} HTTP/1.1",
        "Host: x",
        "webhook-id: msg_x",
        f"webhook-timestamp: {int(time.time())}",
        "webhook-signature: v1,eA==",
        "Content-Type: application/json",
        "Content-Length: 1000",
        "",
        "",
    )
    return "\r\n".join(lines).encode()


@attack("no place is taken for an address that is none of ours", "OK", "connections", "401")
async def strangers_with_slow_bodies(attacker: Attacker) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(webhook_head("x." + "0" * 64))
        while attacker.seconds_left:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.2)

    await attacker.answer(attacker.stubs.models.RunModel(run("hostile/plain", prompt="x")))
    async with httpx.AsyncClient() as asking:
        reply = await asking.get(f"{attacker.target.upstream}/hostile/webhook")
    token = reply.text.rpartition("/")[2]

    async def true_webhook(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As upstream's, but for the signature: it must be read, whoever else is there."""
        await asyncio.sleep(attacker.seconds_left / 2)
        writer.write(webhook_head(token) + bytes(1_000))
        answer = (await reader.readline()).split()
        attacker.answers[answer[1].decode() if answer else "connections"] += 1
        await attacker.rest()

    await asyncio.gather(
        connect(attacker, attacker.target.web, talk, at_once=300),
        connect(attacker, attacker.target.web, true_webhook, at_once=1),
    )


@attack("each waits alone for the head that never comes")
async def strangers_with_slow_heads(attacker: Attacker) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\n")
        while attacker.seconds_left:
            writer.write(b"x: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.1)

    await connect(attacker, attacker.target.web, talk, at_once=300)


@attack("closed; not a byte of it is in a log")
async def garbage_on_every_port(attacker: Attacker) -> None:
    target = attacker.target
    foreign = (
        b"\x16\x03\x01\x02\x00Traceback\x01\xff\xfe\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\nHost: \xff\xfe\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\xff\xff\x04" * 500,
        bytes(range(256)) * 50,
    )

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(attacker.random.choice(foreign))
        await writer.drain()
        async with asyncio.timeout(0.2):
            await reader.read(1_000)

    ports = (target.web, target.operations, target.address)
    await asyncio.gather(*(connect(attacker, port, talk, at_once=8) for port in ports))


@attack("answered: what it costs is bounded")
async def metrics_without_end(attacker: Attacker) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while await reader.read(1 << 16):
            pass

    await connect(attacker, attacker.target.operations, talk, at_once=2)


@attack("kept, each for next to nothing")
async def idle_connections(attacker: Attacker) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        await attacker.rest()

    await connect(attacker, attacker.target.address, talk, at_once=400)


@attack("cut off, or answered at the pace of pings and settings")
async def frames_without_calls(attacker: Attacker) -> None:
    begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    ping = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8)
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while attacker.seconds_left:
            writer.write(attacker.random.choice((ping, settings)) * 200)
            await writer.drain()
            await asyncio.sleep(0.001)

    await connect(attacker, attacker.target.address, talk, at_once=4)


ATTACKS: tuple[Attack, ...] = (
    strangers_with_slow_bodies,
    strangers_with_slow_heads,
    garbage_on_every_port,
    metrics_without_end,
    idle_connections,
    frames_without_calls,
)
