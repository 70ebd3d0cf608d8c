"""Who is measured: the empty echo, the average gateway, and the gate with everything on."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from bench.server_processes import Cores, RunningServer, python, running
from bench.variants import Variant

ECHO, AVERAGE, GATE = "echo", "average", "mediagate"

# Everything that an operator has on is on; the limits are above any load of the bench.
_GATE = {
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
    """What every contender needs: cores, a folder, and where the upstream is. `side`: the gate."""

    cores: Cores
    folder: Path
    upstream_url: str
    side: Variant = field(default_factory=lambda: Variant("this"))

    @contextmanager
    def start(self, name: str) -> Iterator[RunningServer]:
        """One contender, for as long as it is measured."""
        if name == GATE:
            with self.new_gate(self.side) as gate:
                yield gate
            return
        command = python("bench.echo_server")
        if name == AVERAGE:
            command = python("bench.baseline_gateway", self.upstream_url)
        with running(name, self.cores.pinned(command), self.folder) as server:
            yield server

    @contextmanager
    def new_gate(self, side: Variant) -> Iterator[RunningServer]:
        """`mediagate serve` as its operator starts it, with a store of its own."""
        data = Path(mkdtemp(prefix="data-", dir=self.folder))
        try:
            with self.gate_on(side, data) as gate:
                yield gate
        finally:
            shutil.rmtree(data)

    @contextmanager
    def gate_on(self, side: Variant, data: Path) -> Iterator[RunningServer]:
        """The same on a store that is there, or is to stay."""
        settings = _GATE | {
            "MEDIAGATE_UPSTREAM_URL": self.upstream_url,
            "MEDIAGATE_DATA_DIR": str(data),
            **side.environment(),
        }
        folder = self.folder / side.name
        folder.mkdir(exist_ok=True)
        with running(GATE, self.cores.pinned(side.command()), folder, settings) as gate:
            yield gate
