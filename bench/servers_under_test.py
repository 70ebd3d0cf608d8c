"""Servers under test: echo server, baseline gateway, and Mediagate with everything on."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from bench.server_processes import Cores, RunningServer, python, running
from bench.variants import Variant

ECHO, AVERAGE, MEDIAGATE = "echo", "average", "mediagate"

# Everything that an operator has on is on; the limits are above any load of the bench.
_SETTINGS = {
    "MEDIAGATE_GRPC_ADDRESS": "127.0.0.1:0",
    "MEDIAGATE_OPS_ADDRESS": "127.0.0.1:0",
    "MEDIAGATE_WEB_ADDRESS": "127.0.0.1:0",
    "MEDIAGATE_CREATES_PER_MINUTE": "1000000",
    "MEDIAGATE_READS_PER_MINUTE": "1000000",
    "MEDIAGATE_REQUESTS_PER_MINUTE": "10000000",
    "MEDIAGATE_MAX_IN_FLIGHT": "10000",
    "REPLICATE_API_TOKEN": "bench",
}


@dataclass(frozen=True, slots=True)
class ServersUnderTest:
    """Starts the servers under test; `variant` is that of Mediagate."""

    cores: Cores
    folder: Path
    upstream_url: str
    variant: Variant = field(default_factory=lambda: Variant("this"))

    @contextmanager
    def start(self, name: str) -> Iterator[RunningServer]:
        """Start one of the servers by name."""
        if name == MEDIAGATE:
            with self.start_new(self.variant) as server:
                yield server
            return
        command = python("bench.echo_server")
        if name == AVERAGE:
            command = python("bench.baseline_gateway", self.upstream_url)
        with running(name, self.cores.pinned(command), self.folder) as server:
            yield server

    @contextmanager
    def start_new(self, variant: Variant) -> Iterator[RunningServer]:
        """Start `mediagate serve` with a new store."""
        data = Path(mkdtemp(prefix="data-", dir=self.folder))
        try:
            with self.start_on(variant, data) as server:
                yield server
        finally:
            shutil.rmtree(data)

    @contextmanager
    def start_on(self, variant: Variant, data: Path) -> Iterator[RunningServer]:
        """Start `mediagate serve` on a data folder that is kept."""
        settings = _SETTINGS | {
            "MEDIAGATE_UPSTREAM_URL": self.upstream_url,
            "MEDIAGATE_DATA_DIR": str(data),
            **variant.environment(),
        }
        folder = self.folder / variant.name
        folder.mkdir(exist_ok=True)
        with running(MEDIAGATE, self.cores.pinned(variant.command()), folder, settings) as server:
            yield server
