"""The sandbox as a process of its own, as gates that are killed or paused need it."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mediagate_sandbox.control import SandboxControl
from tests.gate import MEDIAGATE, stop


@contextmanager
def running_sandbox(folder: Path, *options: str) -> Iterator[SandboxControl]:
    """Starts `mediagate sandbox` with these options, waits until it answers, and stops it."""
    with (
        subprocess.Popen(
            [*MEDIAGATE, "sandbox", "--port", "0", *options],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process,
        ExitStack() as stack,
    ):
        stack.callback(stop, process)
        assert process.stderr is not None
        said = process.stderr.readline().decode()
        url = re.search(r"http://\S+?:\d+", said)
        assert url, f"the sandbox does not answer (exit {process.poll()}): {said}"
        yield SandboxControl(url[0])
