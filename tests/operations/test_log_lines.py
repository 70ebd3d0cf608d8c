"""Log lines are written whole and in order, and never later than the end of the loop's turn."""

import asyncio
import io
import subprocess
import sys
import threading

from mediagate_server.log_lines import LogLines


class Target(io.StringIO):
    """Counts how often it is written to."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def put(lines: LogLines, text: str) -> None:
    lines.write(text)
    lines.flush()


def test_without_a_loop_each_line_is_written_at_once() -> None:
    target = Target()
    lines = LogLines(target)
    put(lines, "one\n")
    assert target.getvalue() == "one\n"


async def test_the_lines_of_one_turn_are_one_write() -> None:
    target = Target()
    lines = LogLines(target)
    for number in range(10):
        put(lines, f"{number}\n")
    assert target.writes == 0
    await asyncio.sleep(0)
    assert target.writes == 1
    put(lines, "more\n")
    await asyncio.sleep(0)
    assert target.getvalue() == "".join(f"{n}\n" for n in range(10)) + "more\n"


def test_what_a_loop_left_behind_is_written_in_the_next() -> None:
    target = Target()
    lines = LogLines(target)
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
    target = Target()
    lines = LogLines(target)

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


def test_the_last_lines_of_a_process_are_written() -> None:
    program = (
        "import asyncio, sys\n"
        "from mediagate_server.log_lines import LogLines\n"
        "lines = LogLines(sys.stderr)\n"
        "loop = asyncio.new_event_loop()\n"
        "async def last(): lines.write('last\\n'); lines.flush()\n"
        "loop.run_until_complete(last()); loop.close()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, check=True)
    assert ended.stderr == b"last\n"


async def test_a_target_that_takes_no_more_stops_nobody() -> None:
    """A full disk, a pipe that nobody reads: the lines are lost, the gate goes on."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    lines = LogLines(Full())
    put(lines, "lost\n")
    await asyncio.sleep(0)
    await asyncio.to_thread(put, lines, "lost\n")
