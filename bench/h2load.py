"""Load generator h2load, with gRPC over HTTP/2: one framed message up, all frames down.

It does not look at gRPC's own status, so whoever asks for load also checks what came back: every
reply must be at least as long as the text that it has to hold.
"""

import re
import resource
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_MOST_CONNECTIONS = 10
_DONE = re.compile(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded")
_DATA = re.compile(r"\((\d+)\) data")
_FINISHED = re.compile(r"finished in ([\d.]+)(us|ms|s)\b")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers")
_PATIENCE = 120.0
_SLOWEST = 50.0


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one load came to. Times are seconds.

    `latencies` of all requests, in rising order. `data` is bytes of bodies. `cpu` is the processor
    time that the load itself took.
    """

    requests: int
    failed: int
    data: int
    seconds: float
    cpu: float
    latencies: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    def percentile(self, share: float) -> float:
        """The latency under which this share of the requests stayed."""
        return self.latencies[min(int(len(self.latencies) * share), len(self.latencies) - 1)]


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send what. With a `body` it is posted; `grpc` says whether to speak HTTP/2."""

    url: str
    body: Path | None = None
    grpc: bool = False

    @classmethod
    def method(cls, address: str, method: str, message: Path) -> "Target":
        """A method by service and name, with a file that `frame` wrote."""
        return cls(f"http://{address}/mediagate.v1.{method}", message, grpc=True)

    def options(self, concurrency: int) -> list[str]:
        """For h2load. HTTP/1.1 needs a connection for each request that is under way."""
        clients = connections(concurrency) if self.grpc else concurrency
        options = ["-c", str(clients), "-m", str(concurrency // clients)]
        options += [*_GRPC] if self.grpc else ["--h1"]
        return options + (["-d", str(self.body)] if self.body else [])


def load(target: Target, *, requests: int, concurrency: int, folder: Path) -> LoadResult:
    """Send so many requests, so many at once, and wait for the end of all."""
    before = _children_cpu()
    with loading(target, requests=requests, concurrency=concurrency, folder=folder) as process:
        output, _ = process.communicate(timeout=_PATIENCE + requests / _SLOWEST)
    return read(output, folder, _children_cpu() - before)


@contextmanager
def loading(
    target: Target, *, requests: int, concurrency: int, folder: Path
) -> Iterator[subprocess.Popen[str]]:
    """The same, going on meanwhile. It is ended on leaving, done or not."""
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    command = ["h2load", "-n", str(requests), *target.options(concurrency), f"--log-file={log}"]
    with subprocess.Popen([*command, target.url], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def connections(concurrency: int) -> int:
    """How many connections share the calls: as many processes of callers, none with too much."""
    return max(n for n in range(1, _MOST_CONNECTIONS + 1) if concurrency % n == 0)


def frame(message: bytes, path: Path) -> Path:
    """Write a message as gRPC sends it: not packed, its length before it."""
    path.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    return path


def read(output: str, folder: Path, cpu: float = 0.0) -> LoadResult:
    """What h2load wrote, to its output and to its log in `folder`."""
    done, data, finished = _DONE.search(output), _DATA.search(output), _FINISHED.search(output)
    if done is None or data is None or finished is None:
        raise RuntimeError(f"h2load says something else than it used to:\n{output}")
    return LoadResult(
        requests=int(done[2]),
        failed=int(done[1]) - int(done[2]),
        data=int(data[1]),
        seconds=float(finished[1]) * _UNITS[finished[2]],
        cpu=cpu,
        latencies=_latencies((folder / "h2load.log").read_text(encoding="ascii").splitlines()),
    )


def _latencies(lines: Sequence[str]) -> tuple[float, ...]:
    """A line of the log: when a request began, its status, how long it took, both in us."""
    return tuple(sorted(int(line.split()[2]) / 1e6 for line in lines))


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
