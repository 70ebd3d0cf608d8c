"""Benchmark run: what is measured in which order, and every sample of it."""

import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack

from bench.measurements import Bench, Figures, medians
from bench.run_size import RunSize
from bench.server_processes import RunningServer
from bench.servers_under_test import AVERAGE, ECHO, MEDIAGATE, ServersUnderTest
from bench.store_bench import StoreBench


class BenchRun:
    """One run: what was sampled so far, and what is measured next."""

    def __init__(self, run_size: RunSize, servers: ServersUnderTest, bench: Bench) -> None:
        self._run_size = run_size
        self._servers = servers
        self._bench = bench
        self._samples: dict[str, dict[str, list[Figures]]] = defaultdict(lambda: defaultdict(list))

    def measure_all(self) -> dict[str, dict[str, dict[str, float]]]:
        """Everything, rounds interleaved so that a noisy minute is everybody's."""
        self._add_sample("upstream alone", "upstream", self._bench.direct())
        with ExitStack() as stack:
            servers = [
                stack.enter_context(self._servers.start(name))
                for name in (ECHO, AVERAGE, MEDIAGATE)
            ]
            self._unary(servers)
            self._streams(servers)
            self._at_once(servers)
        self._stores()
        for name in (MEDIAGATE, AVERAGE):
            with self._servers.start(name) as fresh:
                self._add_sample("idle", name, self._bench.idle(fresh, self._run_size.idle_streams))
        for _ in range(self._run_size.starts):
            for name in (ECHO, AVERAGE, MEDIAGATE):
                with self._servers.start(name) as started:
                    self._add_sample("start", name, {"ready_seconds": started.ready_seconds})
        return {
            name: {who: medians(samples) for who, samples in figures.items()}
            for name, figures in self._samples.items()
        }

    def _unary(self, servers: Sequence[RunningServer]) -> None:
        for succeeded in (True, False):
            kind = "succeeded" if succeeded else "processing"
            for _ in range(self._run_size.unary_rounds if succeeded else 1):
                for concurrency in self._run_size.concurrencies:
                    for server in servers if succeeded else servers[1:]:
                        figures = self._bench.unary(
                            server, concurrency, self._run_size.unary_seconds, succeeded=succeeded
                        )
                        self._add_sample(f"unary {kind} c{concurrency}", server.name, figures)

    def _streams(self, servers: Sequence[RunningServer]) -> None:
        for _ in range(self._run_size.burst_rounds):
            for streams in self._run_size.bursts:
                for server in servers:
                    figures = self._bench.burst(server, streams, self._run_size.burst_tokens)
                    self._add_sample(f"burst s{streams}", server.name, figures)
        for _ in range(self._run_size.paced_rounds):
            for streams, interval, seconds in self._run_size.paced:
                for server in servers[1:]:
                    figures = self._bench.paced(server, streams, interval, seconds)
                    self._add_sample(
                        f"paced s{streams} {interval * 1e3:.0f}ms", server.name, figures
                    )

    def _at_once(self, servers: Sequence[RunningServer]) -> None:
        calls = self._run_size.calls_at_once
        for server in servers:
            if server.name == MEDIAGATE:
                self._add_sample(
                    f"calls at once {calls}", MEDIAGATE, self._bench.concurrent_calls(server, calls)
                )

    def _stores(self) -> None:
        """What much in the store costs: the same on a small one and on a large one."""
        run_size, variant = self._run_size, self._servers.variant
        store = StoreBench(self._servers, self._bench, run_size.unary_seconds, run_size.unfinished)
        large = store.fill(variant, run_size.stores[1])
        for _ in range(run_size.unary_rounds):
            # What is measured adds to a store: to a large one little, so it is used again.
            small = store.fill(variant, run_size.stores[0])
            for size, folder in zip(run_size.stores, (small, large), strict=True):
                for name, figures in store.measure(variant, folder).items():
                    self._add_sample(f"store {size} {name}", MEDIAGATE, figures)
            shutil.rmtree(small)

    def _add_sample(self, name: str, who: str, figures: Figures) -> None:
        self._samples[name][who].append(figures)
        text = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
        print(f"{name:<24} {who:<10} {text}", file=sys.stderr, flush=True)
