"""A sandbox as its own process, as Replicate is: it survives whatever happens to a gate."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mediagate_sandbox.control import SandboxControl

UNLIMITED = ("--creates-per-minute", "0", "--requests-per-minute", "0")
AT_ONCE = ("--time-scale", "0", "--token-time-scale", "0", "--small-files")


@contextmanager
def running_sandbox(folder: Path, *arguments: str) -> Iterator[SandboxControl]:
    """Starts `mediagate sandbox` on a free port and stops it in the end; it must end well.

    Its first line, which has the seeds, is printed. Without --verbose it writes little more, so
    nothing else is read until it ends.
    """
    command = [sys.executable, "-m", "mediagate_cli", "sandbox", "--port", "0", *arguments]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://[^ ]+", line)
        assert found, line + process.stderr.read()
        print(line, end="")
        try:
            yield SandboxControl(found.group())
        finally:
            process.terminate()
    assert process.returncode == 0
