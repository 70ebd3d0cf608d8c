"""Log lines are written whole and in order, and never later than the end of the loop's turn."""

import asyncio
import fcntl
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

import grpc
import pytest

from mediagate.v1.models_pb2 import ListModelsRequest
from mediagate.v1.models_pb2_grpc import ModelServiceStub
from mediagate_server.observability.logging import MAX_WAITING_LINES, BufferedLogWriter
from tests.server_process import running_server

SMALLEST_PIPE = 4096


class LogTarget(io.StringIO):
    """Counts how often it is written to."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def put(lines: BufferedLogWriter, text: str) -> None:
    lines.write(text)
    lines.flush()


def test_lines_are_written_at_once_without_an_event_loop() -> None:
    target = LogTarget()
    lines = BufferedLogWriter(target)
    put(lines, "one\n")
    assert target.getvalue() == "one\n"


async def test_lines_of_one_loop_iteration_are_one_write() -> None:
    target = LogTarget()
    lines = BufferedLogWriter(target)
    for number in range(10):
        put(lines, f"{number}\n")
    assert target.writes == 0
    await asyncio.sleep(0)
    assert target.writes == 1
    put(lines, "more\n")
    await asyncio.sleep(0)
    assert target.getvalue() == "".join(f"{n}\n" for n in range(10)) + "more\n"


def test_pending_lines_of_a_closed_loop_are_written() -> None:
    target = LogTarget()
    lines = BufferedLogWriter(target)
    left = asyncio.new_event_loop()

    async def leave() -> None:
        put(lines, "left\n")

    async def go_on() -> None:
        put(lines, "on\n")
        await asyncio.sleep(0)

    left.run_until_complete(leave())
    left.close()
    asyncio.run(go_on())
    assert target.getvalue() == "left\non\n"


async def test_threads_lose_no_line() -> None:
    target = LogTarget()
    lines = BufferedLogWriter(target)

    def write_many(name: int) -> None:
        for number in range(500):
            put(lines, f"{name} {number}\n")

    threads = [threading.Thread(target=write_many, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for number in range(500):
        put(lines, f"loop {number}\n")
        await asyncio.sleep(0)
    for thread in threads:
        await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)
    assert len(set(target.getvalue().splitlines())) == 2_500


def test_pending_lines_are_written_at_exit() -> None:
    program = (
        "import asyncio, sys\n"
        "from mediagate_server.observability.logging import BufferedLogWriter\n"
        "lines = BufferedLogWriter(sys.stderr)\n"
        "loop = asyncio.new_event_loop()\n"
        "async def last(): lines.write('last\\n'); lines.flush()\n"
        "loop.run_until_complete(last()); loop.close()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, check=True)
    assert ended.stderr == b"last\n"


async def test_a_full_disk_does_not_stop_the_server() -> None:
    """A full disk: the lines are lost, the server goes on."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    lines = BufferedLogWriter(Full())
    put(lines, "lost\n")
    await asyncio.sleep(0)
    await asyncio.to_thread(put, lines, "lost\n")


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, TextIO]]:
    """Both ends of a pipe, which has no room for much."""
    reading, writing = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "w") as writer:
        yield reader, writer


async def test_a_stalled_log_reader_does_not_block(pipe: tuple[BinaryIO, TextIO]) -> None:
    """What it had no room for comes when it reads on: every line whole, once, in order."""
    reader, writer = pipe
    lines = BufferedLogWriter(writer, lambda: pytest.fail("a line was lost"))
    said = "".join(f"{number} {'x' * (number % 9_000)}\n" for number in range(0, 20_000, 99))
    for line in said.splitlines(keepends=True):
        put(lines, line)
        await asyncio.sleep(0)
    heard = b""
    while len(heard) < len(said):
        heard += await asyncio.to_thread(reader.read, 10_000)
    assert heard.decode() == said


async def test_excess_pending_lines_are_dropped_and_counted(pipe: tuple[BinaryIO, TextIO]) -> None:
    """Those that came first are kept, and what is said once there is room again."""
    reader, writer = pipe
    lost: list[None] = []
    lines = BufferedLogWriter(writer, lambda: lost.append(None))
    put(lines, "x" * SMALLEST_PIPE + "\n")
    await asyncio.sleep(0)
    for number in range(MAX_WAITING_LINES + 7):
        put(lines, f"{number}\n")
    assert len(lost) == 7
    expected = "x" * SMALLEST_PIPE + "\n" + "".join(f"{n}\n" for n in range(MAX_WAITING_LINES))
    heard = b""
    while len(heard) < len(expected):
        heard += await asyncio.to_thread(reader.read, 10_000)
    assert heard.decode() == expected
    put(lines, "again\n")
    assert await asyncio.to_thread(reader.read, 100) == b"again\n"


async def test_a_closed_log_pipe_does_not_stop_the_server(pipe: tuple[BinaryIO, TextIO]) -> None:
    reader, writer = pipe
    reader.close()
    lines = BufferedLogWriter(writer)
    for number in range(3):
        put(lines, f"{number}\n")
        await asyncio.sleep(0)


def test_shutdown_does_not_wait_for_the_log_reader() -> None:
    """It waits a moment for its reader, not for ever."""
    program = (
        "import sys\n"
        "from mediagate_server.observability.logging import BufferedLogWriter\n"
        "lines = BufferedLogWriter(sys.stderr)\n"
        "for _ in range(100): lines.write('x' * 999 + '\\n')\n"
        "lines.flush()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
        assert process.wait(60) == 0
        assert process.stderr.read().startswith(b"x" * 999)


def test_a_server_with_an_unread_log_keeps_serving(tmp_path: Path) -> None:
    """Hundreds of calls, though the pipe of its log is full after a dozen; then each has a line."""
    log = tmp_path / "gate.log"
    os.mkfifo(log)
    number = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(number, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
    with os.fdopen(number, "rb") as reader, running_server(tmp_path) as server:
        with grpc.insecure_channel(server.address) as channel:
            models = ModelServiceStub(channel)
            for _ in range(300):
                models.ListModels(ListModelsRequest(page_size=1), timeout=60)
        os.set_blocking(number, True)
        assert reader.readline().startswith(b"Mediagate serves")
        rpcs = [json.loads(reader.readline()) for _ in range(300)]
    assert {rpc["method"] for rpc in rpcs} == {"/mediagate.v1.ModelService/ListModels"}
