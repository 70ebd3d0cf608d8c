"""Main loop of one worker process: reads a job from standard input, runs it, writes the result.

Started by worker_pool.WorkerPool as `python -m`, with one end of a socket pair as its standard
input. It imports nothing but what its tasks need, so that an idle one stays small.
"""

import contextlib
import ctypes
import importlib
import resource
import signal
import socket
import sys
import traceback
from errno import ENOMEM
from pathlib import Path
from struct import Struct
from typing import Final

from mediagate_server.workers.system_errors import is_system_error

JOB_HEADER: Final = Struct("!HdQQ")
"""Header of a job: length of the function's name, seconds of CPU time, bytes of memory, payload
length."""
ANSWER_HEADER: Final = Struct("!BQQ")
"""Header of an answer: status, resident memory in bytes, payload length."""
READY, DONE, OUT_OF_MEMORY, FAILED, SYSTEM_ERROR = range(5)

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Serve jobs until the other end is closed."""
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal's Ctrl-C is the parent's to handle.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=0) as connection:
        _answer(connection, READY, b"")
        while header := _receive(connection, JOB_HEADER.size):
            name_length, seconds, memory, length = JOB_HEADER.unpack(header)
            name = _receive(connection, name_length).decode()
            payload = _receive(connection, length)
            # The default action of SIGPROF ends the process even within a call into C or Rust. It
            # comes by CPU time: a machine that stood still or had no time says nothing of the job.
            signal.setitimer(signal.ITIMER_PROF, seconds)
            status, result = _run(name, payload, memory)
            signal.setitimer(signal.ITIMER_PROF, 0)
            _answer(connection, status, result)
            if status == OUT_OF_MEMORY:
                return


def _run(name: str, payload: bytes, memory: int) -> tuple[int, bytes]:
    """Run one job within its memory limit. An error is returned by its type and location: its text
    may be foreign.

    RLIMIT_AS counts address space, so the limit is what the job may add to what is mapped already.
    """
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    try:
        module, _, function = name.partition(":")
        task = getattr(importlib.import_module(module), function)
        resource.setrlimit(resource.RLIMIT_AS, (_memory()[0] + memory, hard))
        try:
            return DONE, bytes(task(payload))
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    except MemoryError:
        return OUT_OF_MEMORY, b""
    except Exception as error:  # noqa: BLE001 - it is reported to the parent
        if isinstance(error, OSError) and is_system_error(error):
            if error.errno == ENOMEM:
                return OUT_OF_MEMORY, b""
            return SYSTEM_ERROR, str(error.errno).encode()
        frame = traceback.extract_tb(error.__traceback__)[-1]
        location = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        return FAILED, location.encode()


def _memory() -> tuple[int, int]:
    """Bytes of address space and of resident memory; zero where the system does not say.

    Not `ru_maxrss`, which begins with the size of the process that started this one.
    """
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0, 0
    size = resource.getpagesize()
    return int(pages[0]) * size, int(pages[1]) * size


def _die_with_parent() -> None:
    """Have Linux send SIGKILL at the parent's death; elsewhere the job's end or timer must do."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _answer(connection: socket.socket, status: int, payload: bytes) -> None:
    connection.sendall(ANSWER_HEADER.pack(status, _memory()[1], len(payload)))
    connection.sendall(payload)


def _receive(connection: socket.socket, length: int) -> bytes:
    """Read so many bytes; the process ends where the other end was closed."""
    received = bytearray(length)
    view, at = memoryview(received), 0
    while at < length:
        count = connection.recv_into(view[at:])
        if not count:
            sys.exit(0)
        at += count
    return bytes(received)


if __name__ == "__main__":
    main()
