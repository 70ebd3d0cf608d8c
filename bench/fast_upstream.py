"""Fake upstream with Replicate's API, as fast as Python can be. python -m bench.fast_upstream.

It stands in for Replicate only where speed is measured. It checks nothing, forgets everything and
holds no state of a prediction: the script that is set by PUT /bench says how each is answered.
`mediagate_sandbox` is the one that behaves.
"""

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import cast

import uvloop

from bench.ready_line import print_ready_line
from bench.upstream_responses import (
    LAST_CHUNK,
    Document,
    ResponseScript,
    chunked,
    done,
    event,
    stream_body,
)

_JSON = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@dataclass(slots=True)
class Counts:
    """What was asked for since the script was set."""

    creates: int = 0
    gets: int = 0
    cancels: int = 0
    streams: int = 0
    tokens: int = 0


@dataclass(slots=True)
class State:
    """The script in force, and all that can be prepared for it."""

    root: str = ""
    script: ResponseScript = field(default_factory=ResponseScript)
    counts: Counts = field(default_factory=Counts)
    words: tuple[str, ...] = ()
    begun: Document | None = None
    ended: Document | None = None
    canceled: Document | None = None
    body: bytes = b""
    go: asyncio.Event = field(default_factory=asyncio.Event)
    created: int = 0

    def follow(self, script: ResponseScript) -> None:
        """Behave like this from now on, and count from zero."""
        self.script = script
        self.counts = Counts()
        self.words = script.words()
        self.begun = Document(self.root, "processing", None)
        self.ended = Document(self.root, "succeeded", self.words)
        self.canceled = Document(self.root, "canceled", ())
        self.body = stream_body(self.words)
        self.go = asyncio.Event()
        if not script.held:
            self.go.set()

    def next_id(self) -> bytes:
        """An id that no prediction had before."""
        self.created += 1
        return b"b%025d" % self.created


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: requests in order, each answered as soon as it is whole."""

    def __init__(self, state: State, streams: set["asyncio.Task[None]"]) -> None:
        self._state = state
        self._streams = streams
        self._read = b""
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # a TCP server's always is

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol. Whoever was streamed to is gone."""
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._read = self._read + data if self._read else data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head = self._read[:end]
            request_end = end + 4 + _length_of_body(head)
            if len(self._read) < request_end:
                return
            body, self._read = self._read[end + 4 : request_end], self._read[request_end:]
            verb, path, _ = head.split(b" ", 2)
            self._answer(verb, path, body)

    def _answer(self, verb: bytes, path: bytes, body: bytes) -> None:
        state = self._state
        if path.startswith(b"/bench"):
            self._control(verb, path, body)
        elif path.startswith(b"/stream/"):
            self._open_stream()
        elif path.endswith(b"/cancel"):
            state.counts.cancels += 1
            self._say(b"200 OK", state.canceled, path.rsplit(b"/", 2)[1])
        elif verb == b"POST":
            state.counts.creates += 1
            answer = state.ended if state.script.succeeded else state.begun
            self._say(b"201 Created", answer, state.next_id())
        else:
            state.counts.gets += 1
            self._say(b"200 OK", state.ended, path.rsplit(b"/", 1)[1])

    def _say(self, status: bytes, document: Document | None, prediction_id: bytes) -> None:
        body = b"{}" if document is None else document.of(prediction_id)
        self._transport.write(_JSON % (status, len(body), body))

    def _control(self, verb: bytes, path: bytes, body: bytes) -> None:
        state = self._state
        if verb == b"PUT":
            state.follow(ResponseScript.from_json(body))
        elif path == b"/bench/go":
            state.go.set()
        counts = state.counts
        body = json.dumps({name: getattr(counts, name) for name in Counts.__slots__}).encode()
        self._transport.write(_JSON % (b"200 OK", len(body), body))

    def _open_stream(self) -> None:
        state = self._state
        state.counts.streams += 1
        self._transport.write(_STREAM)
        if state.go.is_set() and not state.script.interval:
            self._burst()
            return
        self._task = asyncio.ensure_future(self._stream(state.script.interval))
        self._streams.add(self._task)
        self._task.add_done_callback(self._streams.discard)

    def _burst(self) -> None:
        self._state.counts.tokens += len(self._state.words)
        self._transport.write(self._state.body)

    async def _stream(self, interval: float) -> None:
        await self._state.go.wait()
        if not interval:
            self._burst()
            return
        # Streams of different callers are not in step.
        clock = asyncio.get_running_loop()
        due = clock.time() + random.random() * interval
        for index, word in enumerate(self._state.words):
            await asyncio.sleep(due - clock.time())
            due += interval
            self._state.counts.tokens += 1
            self._transport.write(chunked(event(index, word)))
        self._transport.write(chunked(done(len(self._state.words))) + LAST_CHUNK)


def _length_of_body(head: bytes) -> int:
    _, separator, rest = head.lower().partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if separator else 0


async def serve() -> None:
    """Serve on a free port until killed; says the port once it is open."""
    state = State()
    streams: set[asyncio.Task[None]] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(state, streams), "127.0.0.1", 0, backlog=4096
    )
    port = server.sockets[0].getsockname()[1]
    state.root = f"http://127.0.0.1:{port}"
    state.follow(ResponseScript())
    print_ready_line(port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
