"""The command `mediagate` as a process of its own: on a pseudo-terminal, or by a shell."""

import contextlib
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.server_process import MEDIAGATE, free_ports

SECONDS = 150
UTF_8 = {"LC_ALL": "C.UTF-8"}
LATIN_1 = {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"}
CP1252 = {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "cp1252"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def environment(target: str, **variables: str) -> dict[str, str]:
    """No home, no locale and no setting gets in by chance."""
    return {
        "PATH": f"{Path(MEDIAGATE[0]).parent}:{os.environ['PATH']}",
        "MEDIAGATE_TARGET": target,
        "TERM": "xterm",
        **variables,
    }


class Terminal:
    """A process whose standard streams are a terminal, and the bytes that it has shown so far."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int) -> None:
        self.process = process
        self.output = b""
        self._master = master
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def until(self, words: bytes) -> None:
        """Waits until these words have been shown."""
        with self._changed:
            come = self._changed.wait_for(lambda: words in self.output or self._ended, SECONDS)
        assert come, self.output
        assert words in self.output, self.output

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def finish(self) -> int:
        """Waits for the end; gives the exit code."""
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        assert b"Traceback" not in self.output, self.output
        return code

    def _read(self) -> None:
        # Linux says EIO once nobody has the other end open.
        with contextlib.suppress(OSError):
            while piece := os.read(self._master, 65_536):
                with self._changed:
                    self.output += piece
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@contextmanager
def terminal(
    folder: Path,
    target: str,
    *arguments: str,
    variables: dict[str, str] | None = None,
    prepare: Callable[[], object] | None = None,
) -> Iterator[Terminal]:
    """Runs `mediagate ARGUMENTS…` on a terminal of its own."""
    master, slave = pty.openpty()
    try:
        with subprocess.Popen(
            [*MEDIAGATE, *arguments],
            cwd=folder,
            env=environment(target, **(variables or UTF_8)),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=prepare or restore_signals,  # noqa: PLW1509 - no thread of ours holds a lock
        ) as process:
            os.close(slave)
            running = Terminal(process, master)
            try:
                yield running
            finally:
                if process.poll() is None:
                    process.kill()
    finally:
        os.close(master)


def restore_signals() -> None:
    """Whoever runs the tests in the background has told their children to ignore Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def shell(
    folder: Path, target: str, script: str, variables: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[bytes]":
    """Runs a script of bash in a folder; `mediagate` is on its path."""
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment(target, **(variables or UTF_8)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert b"Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def server_variables(data: Path, **variables: str) -> dict[str, str]:
    """The environment of a server on free ports and the embedded sandbox."""
    grpc_address, operations, web = (f"127.0.0.1:{port}" for port in free_ports(3))
    return environment(
        "",
        MEDIAGATE_GRPC_ADDRESS=grpc_address,
        MEDIAGATE_OPS_ADDRESS=operations,
        MEDIAGATE_WEB_ADDRESS=web,
        MEDIAGATE_DATA_DIR=str(data),
        MEDIAGATE_UPSTREAM="sandbox",
        **variables,
    )
