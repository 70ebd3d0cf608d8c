"""The servers under test as processes of their own: pinned, watched, and ended by their id."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ADDRESS = re.compile(rb"serves (?:gRPC )?on (127\.0\.0\.1:\d+)(.*)\n")
_OPERATIONS = re.compile(rb"operations on (127\.0\.0\.1:\d+)")
_READY_SECONDS = 120.0
_STOP_SECONDS = 20.0
_LOOK_EVERY = 0.002
_INHERITED = ("HOME", "LANG", "PATH", "TMPDIR")
_TICKS = os.sysconf("SC_CLK_TCK")
# Linux names the clock of a process after its id and this.
_WHOLE_PROCESS = 2


class NotServing(Exception):
    """A server of the bench has not come up; it says what that one wrote."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the server under test runs, and where everything else does; None: anywhere."""

    server: int | None
    load: int | None

    @classmethod
    def here(cls) -> "Cores":
        """Two cores of this machine; none where it has only one, or cannot pin."""
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(allowed) < 2 or shutil.which("taskset") is None:
            return cls(None, None)
        return cls(allowed[0], allowed[1])

    def take_load_core(self) -> None:
        """Put this process, and with it all that it starts unpinned, on the core of the load."""
        if self.load is not None:
            os.sched_setaffinity(0, {self.load})

    def pinned(self, command: list[str]) -> list[str]:
        """The command, to run on the core of the server under test."""
        if self.server is None:
            return command
        return ["taskset", "--cpu-list", str(self.server), *command]


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that takes calls. `ready_seconds` is how long it took to say so."""

    name: str
    pid: int
    address: str
    operations: str
    ready_seconds: float

    def cpu_seconds(self) -> float:
        """Processor time used so far, in user and kernel mode, with all that it has started."""
        return sum(_cpu_of(pid) for pid in _family(self.pid))

    def resident_kib(self) -> int:
        """Memory that it holds now, with all that it has started."""
        return sum(_resident_of(pid) for pid in _family(self.pid))

    def kill(self) -> None:
        """`kill -9`."""
        os.kill(self.pid, signal.SIGKILL)


def _family(pid: int) -> Iterator[int]:
    """A process and all below it: what a server leaves to others is its work all the same."""
    yield pid
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = file.read_text(encoding="ascii").split()
        except (FileNotFoundError, ProcessLookupError):  # The thread has ended meanwhile.
            continue
        for child in children:
            yield from _family(int(child))


def _cpu_of(pid: int) -> float:
    """Its own time, exact to the nanosecond, and that of children that are gone, to the tick."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        own = time.clock_gettime((~pid << 3) | _WHOLE_PROCESS)
    except (OSError, ProcessLookupError):  # It has ended meanwhile: its parent has its time.
        return 0.0
    return own + (int(fields[13]) + int(fields[14])) / _TICKS


def _resident_of(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours."""
    return [sys.executable, "-m", module, *arguments]


@contextmanager
def running(
    name: str, command: list[str], folder: Path, settings: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """Start a server, wait until it says where it serves, and end it afterwards.

    What it writes goes to a file in `folder`. `settings` are environment variables; nothing else
    of this process's environment is passed on but what every program needs.
    """
    environment = {key: os.environ[key] for key in _INHERITED if key in os.environ} | dict(
        settings or {}
    )
    output = folder / f"{name}.log"
    with output.open("wb") as log:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            address, operations = _wait(process, output)
            ready = time.perf_counter() - begun
            yield RunningServer(name, process.pid, address, operations, ready)
        finally:
            _end(process)


def _wait(process: subprocess.Popen[bytes], output: Path) -> tuple[str, str]:
    give_up = time.monotonic() + _READY_SECONDS
    while time.monotonic() < give_up:
        if match := _ADDRESS.search(output.read_bytes()):
            operations = _OPERATIONS.search(match[2])
            return match[1].decode(), operations[1].decode() if operations else ""
        if process.poll() is not None:
            break
        time.sleep(_LOOK_EVERY)
    raise NotServing(f"{process.args!r} does not serve:\n{output.read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """By its id, in good order; by force where it does not go."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
