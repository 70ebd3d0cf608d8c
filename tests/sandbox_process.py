"""A sandbox as its own process, as Replicate is: it survives whatever happens to a server."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import IO

from mediagate_sandbox.control_client import SandboxControl
from mediagate_sandbox.server import SandboxSettings

UNLIMITED = tuple(
    word for name in ("creates", "requests", "gets") for word in (f"--{name}-per-minute", "0")
)
AT_ONCE = ("--time-scale", "0", "--token-time-scale", "0", "--small-files")
INSTANT = SandboxSettings(
    port=0,
    time_scale=0,
    token_time_scale=0,
    small_files=True,
    creates_per_minute=None,
    requests_per_minute=None,
    gets_per_minute=None,
)
"""The same two of a sandbox in this process."""


@contextmanager
def running_sandbox(folder: Path, *arguments: str) -> Iterator[SandboxControl]:
    """Starts `mediagate sandbox` on a free port and stops it in the end.

    It must end well, and have met nothing that it did not expect. Its first line, which has the
    seeds, is printed.
    """
    command = [sys.executable, "-m", "mediagate_cli", "sandbox", "--port", "0", *arguments]
    log = folder / "sandbox.log"
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        match = re.search(r"https?://[^ ]+", line)
        assert match, line + process.stderr.read()
        print(line, end="")
        # A pipe that nobody reads fills up, and stops whoever writes into it.
        reading = Thread(target=_copy, args=(process.stderr, log))
        reading.start()
        try:
            yield SandboxControl(match.group())
        finally:
            process.terminate()
            reading.join()
    written = log.read_text()
    assert process.returncode == 0, written
    assert "Traceback" not in written, written


def _copy(lines: IO[str], file: Path) -> None:
    with file.open("w") as copy:
        copy.writelines(lines)
