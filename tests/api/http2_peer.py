"""HTTP/2 by hand: as much as shows what a server's settings do to its peers."""

import asyncio
import struct
from typing import Final, Self

DATA, HEADERS, SETTINGS, PING, GOAWAY = 0, 1, 4, 6, 7
ACK: Final = 1
END_HEADERS: Final = 4
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE = 3, 4, 6
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Peer:
    """One connection. `async with await Peer.of(address) as peer`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.seen: set[int] = set()
        """Kinds of frames that the server has sent of its own accord."""

    @classmethod
    async def of(cls, address: str) -> Self:
        host, _, port = address.rpartition(":")
        peer = cls(*await asyncio.open_connection(host, int(port)))
        peer._writer.write(_PREFACE)
        peer.send(SETTINGS, 0, b"")
        return peer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def send(self, kind: int, flags: int, payload: bytes, *, stream: int = 0) -> None:
        """A frame; without a stream, of the connection itself."""
        size = struct.pack(">I", len(payload))[1:]
        head = size + bytes((kind, flags)) + stream.to_bytes(4)
        self._writer.write(head + payload)

    def call(self, path: str) -> None:
        """Begin an rpc as stream 1; its message is what is sent as DATA."""

        def literal(name: bytes, value: str) -> bytes:
            return name + bytes((len(value),)) + value.encode()

        # HPACK without a table of its own: POST, http, then names by the static table or in full.
        named = bytes((0, 2)) + b"te"
        headers = bytes((0x83, 0x86)) + literal(b"\x04", path) + literal(b"\x01", "x")
        headers += literal(b"\x0f\x10", "application/grpc") + literal(named, "trailers")
        self.send(HEADERS, END_HEADERS, headers, stream=1)

    async def receive(self, kind: int, flags: int = 0) -> bytes:
        """The next such frame; others are passed over. ConnectionError where GOAWAY comes."""
        while True:
            head = await self._reader.readexactly(9)
            payload = await self._reader.readexactly(int.from_bytes(head[:3]))
            if head[3] == GOAWAY:
                raise ConnectionError(payload[8:].decode())
            if not head[4] & ACK:
                self.seen.add(head[3])
            if (head[3], head[4]) == (kind, flags):
                return payload

    async def settings(self) -> dict[int, int]:
        """What the server says of itself first."""
        payload = await self.receive(SETTINGS)
        return dict(struct.iter_unpack(">HI", payload))

    async def ping(self) -> None:
        """There and back."""
        self.send(PING, 0, bytes(8))
        await self.receive(PING, ACK)
