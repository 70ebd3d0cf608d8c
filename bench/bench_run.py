"""One run of the bench: what is measured in which order, and every sample of it."""

import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack

from bench.measurements import Bench, Figures, medians
from bench.run_size import RunSize
from bench.server_processes import RunningServer
from bench.servers_under_test import AVERAGE, ECHO, GATE, ServersUnderTest
from bench.store_bench import StoreBench


class BenchRun:
    """One run: what was sampled so far, and what is measured next."""

    def __init__(self, extent: RunSize, stage: ServersUnderTest, bench: Bench) -> None:
        self._extent = extent
        self._stage = stage
        self._bench = bench
        self._samples: dict[str, dict[str, list[Figures]]] = defaultdict(lambda: defaultdict(list))

    def measure_all(self) -> dict[str, dict[str, dict[str, float]]]:
        """Everything, rounds interleaved so that a noisy minute is everybody's."""
        self._keep("upstream alone", "upstream", self._bench.direct())
        with ExitStack() as stack:
            servers = [
                stack.enter_context(self._stage.start(name)) for name in (ECHO, AVERAGE, GATE)
            ]
            self._unary(servers)
            self._streams(servers)
            self._at_once(servers)
        self._stores()
        for name in (GATE, AVERAGE):
            with self._stage.start(name) as fresh:
                self._keep("idle", name, self._bench.idle(fresh, self._extent.idle_streams))
        for _ in range(self._extent.starts):
            for name in (ECHO, AVERAGE, GATE):
                with self._stage.start(name) as started:
                    self._keep("start", name, {"ready_seconds": started.ready_seconds})
        return {
            name: {who: medians(samples) for who, samples in found.items()}
            for name, found in self._samples.items()
        }

    def _unary(self, servers: Sequence[RunningServer]) -> None:
        for succeeded in (True, False):
            kind = "succeeded" if succeeded else "processing"
            for _ in range(self._extent.unary_rounds if succeeded else 1):
                for concurrency in self._extent.concurrencies:
                    for server in servers if succeeded else servers[1:]:
                        found = self._bench.unary(
                            server, concurrency, self._extent.unary_seconds, succeeded=succeeded
                        )
                        self._keep(f"unary {kind} c{concurrency}", server.name, found)

    def _streams(self, servers: Sequence[RunningServer]) -> None:
        for _ in range(self._extent.burst_rounds):
            for streams in self._extent.bursts:
                for server in servers:
                    found = self._bench.burst(server, streams, self._extent.burst_tokens)
                    self._keep(f"burst s{streams}", server.name, found)
        for _ in range(self._extent.paced_rounds):
            for streams, interval, seconds in self._extent.paced:
                for server in servers[1:]:
                    found = self._bench.paced(server, streams, interval, seconds)
                    self._keep(f"paced s{streams} {interval * 1e3:.0f}ms", server.name, found)

    def _at_once(self, servers: Sequence[RunningServer]) -> None:
        calls = self._extent.calls_at_once
        for server in servers:
            if server.name == GATE:
                self._keep(f"calls at once {calls}", GATE, self._bench.at_once(server, calls))

    def _stores(self) -> None:
        """What much in the store costs: the same on a small one and on a large one."""
        extent, side = self._extent, self._stage.side
        store = StoreBench(self._stage, self._bench, extent.unary_seconds, extent.unfinished)
        large = store.fill(side, extent.stores[1])
        for _ in range(extent.unary_rounds):
            # What is measured adds to a store: to a large one little, so it is used again.
            small = store.fill(side, extent.stores[0])
            for size, folder in zip(extent.stores, (small, large), strict=True):
                for name, found in store.measure(side, folder).items():
                    self._keep(f"store {size} {name}", GATE, found)
            shutil.rmtree(small)

    def _keep(self, name: str, who: str, found: Figures) -> None:
        self._samples[name][who].append(found)
        told = "  ".join(f"{key} {value:.4g}" for key, value in found.items())
        print(f"{name:<24} {who:<10} {told}", file=sys.stderr, flush=True)
