"""Large answers to a server that runs as a process: at most 32 MiB more, whatever is in them."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from mediagate.v1 import generation_pb2
from tests.builders import stream_text_request
from tests.conftest import Missing
from tests.process_memory import Memory
from tests.server_process import running_server

from .generation_waits import get_generation
from .scripted_upstream import ScriptedUpstream
from .stubs import Stubs
from .test_large_responses import done, runnable, sends, text

MIB = 1024 * 1024
MOST_GROWTH = 32 * MIB

ANSWERS: dict[str, Any] = {
    "numbers": lambda: done(b"[" + b"0," * (12 * MIB) + b"0]"),
    "strings": lambda: done(b"[" + b'"",' * (8 * MIB) + b'""]'),
    "objects": lambda: done(b"[" + b'{"":{}},' * (3 * MIB) + b"0]"),
    "keys": lambda: done(b"{" + b",".join(b'"%d":0' % n for n in range(2 * MIB)) + b"}"),
    "nested": lambda: done(b"[" * (12 * MIB) + b"]" * (12 * MIB)),
    "escapes": lambda: done(b'"' + b"\\u00e9" * (4 * MIB) + b'"'),
    "text": lambda: done(json.dumps("word " * (6 * MIB)).encode()),
    "tokens": lambda: done(b"[" + b'"a",' * (6 * MIB) + b'"b"]'),
    "data URI": lambda: done(b'{"a":["data:x/y;base64,' + b"QUJD" * (6 * MIB) + b'"]}'),
    "links": lambda: done(b"[" + b'"https://x.example/",' * MIB + b'""]'),
    "logs": lambda: done(b'"Hi"', json.dumps("line\n" * (6 * MIB)).encode()),
    "metrics": lambda: done(b"null" + b', "metrics": {' + b'"a":0,' * (4 * MIB) + b'"b":0}'),
    "unknown": lambda: done(b"null" + b', "x": [' + b"[]," * (8 * MIB) + b"0]"),
    "error": lambda: done(b"null" + b', "error": "' + b"e" * (30 * MIB) + b'"'),
    "beyond": lambda: done(b"[" + b"0," * (48 * MIB) + b"0]"),
}


@pytest.fixture
async def process(
    scripted_upstream: ScriptedUpstream, tmp_path: Path, missing: Missing
) -> AsyncIterator[tuple[Stubs, Memory]]:
    """A server in front of the scripted upstream, warm."""
    if not os.path.exists("/proc/self/clear_refs"):  # noqa: ASYNC240, PTH110 - no file is opened
        missing("/proc/PID/clear_refs, to measure memory")
    settings = {
        "MEDIAGATE_UPSTREAM_URL": scripted_upstream.url,
        "REPLICATE_API_TOKEN": "r8_test_token",
    }
    with ExitStack() as stack:
        server = stack.enter_context(running_server(tmp_path, **settings))
        async with grpc.aio.insecure_channel(server.address) as channel:
            stubs = Stubs.on(channel)
            scripted_upstream.creates = [sends(*done(b"[" + b"0," * MIB + b"0]"))]
            await stubs.models.RunModel(runnable(scripted_upstream))
            scripted_upstream.creates = [sends(*done(json.dumps("word " * MIB).encode()))]
            await stubs.text.GenerateText(text())
            yield stubs, Memory(server.process.pid)


QUICK = ("numbers", "nested", "text", "logs", "data URI")


@pytest.mark.parametrize(
    "names",
    [QUICK, pytest.param(tuple(ANSWERS), marks=pytest.mark.faults_full)],
    ids=["quick", "all"],
)
async def test_a_large_response_uses_bounded_memory(
    names: tuple[str, ...], scripted_upstream: ScriptedUpstream, process: tuple[Stubs, Memory]
) -> None:
    """It is settled, and over."""
    stubs, memory = process
    for name in names:
        pieces = ANSWERS[name]()
        assert sum(map(len, pieces)) > 20 * MIB
        scripted_upstream.creates = [sends(*pieces)]
        memory.forget()
        before = memory.now()
        if name in ("text", "tokens", "logs", "escapes"):
            generation = (await stubs.text.GenerateText(text())).generation
        else:
            generation = (await stubs.models.RunModel(runnable(scripted_upstream))).generation
        assert generation.state in (
            generation_pb2.Generation.STATE_SUCCEEDED,
            generation_pb2.Generation.STATE_FAILED,
        )
        assert generation.usage.run_duration.ToNanoseconds() == 1_250_000_000
        await get_generation(stubs, generation.id, full=True)
        growth = memory.most() - before
        print(f"{name}: memory grew by {growth / MIB:.1f} MiB")
        assert growth <= MOST_GROWTH, f"{name}: {growth / MIB:.1f} MiB"


async def test_a_long_streamed_text_uses_bounded_memory(
    scripted_upstream: ScriptedUpstream, process: tuple[Stubs, Memory]
) -> None:
    """Of the text itself there is one copy while it is told."""
    stubs, memory = process
    size = 30 * MIB
    scripted_upstream.creates = [sends(*done(b'"' + b"a" * size + b'"'))]
    memory.forget()
    before = memory.now()
    length = 0
    async for event in stubs.text.StreamText(
        stream_text_request(prompt="Hello", options=text().options)
    ):
        length += len(event.delta.text)
    assert length == size
    assert memory.most() - before <= size + MOST_GROWTH
