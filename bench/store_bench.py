"""Benchmark of a large store: accepting, reading and restarting."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import grpc

from bench.measurements import Bench, Figures, WrongResponse
from bench.server_processes import RunningServer
from bench.servers_under_test import ServersUnderTest
from bench.upstream_responses import ResponseScript
from bench.variants import Variant
from mediagate.v1 import generation_pb2, generations_pb2, generations_pb2_grpc, usage_pb2

CONCURRENCY = 16
WARM_UP = 500
"""Warm-up calls of a new server before it is measured."""
PAGE = 50
_PORTION = 10_000
_PATIENCE = 60.0
_LOOK_EVERY = 0.02
_OPEN = [
    state
    for state in generation_pb2.Generation.State.values()
    if 0 < state < generation_pb2.Generation.STATE_SUCCEEDED
]


@dataclass(frozen=True, slots=True)
class StoreBench:
    """Fills stores through a variant's own server, and measures servers on them."""

    servers: ServersUnderTest
    bench: Bench
    seconds: float
    unfinished: int

    def fill(self, variant: Variant, generations: int) -> Path:
        """A data folder with so many generations, once the calls that warm up are in it."""
        data = Path(mkdtemp(prefix=f"store-{variant.name}-", dir=self.servers.folder))
        left = generations - WARM_UP
        with self.servers.start_on(variant, data) as server:
            while left > 0:
                self.bench.fill(server, min(_PORTION, left))
                left -= _PORTION
                print(f"{variant.name}: {max(left, 0):,} to be stored", file=sys.stderr, flush=True)
        return data

    def measure(self, variant: Variant, data: Path) -> dict[str, Figures]:
        """Everything that is measured on a store, by name. Accepting comes last: it adds to it."""
        with self.servers.start_on(variant, data) as server:
            self.bench.fill(server, WARM_UP)
            figures = {"list": self.list_page(server), "usage": self.usage(server)}
            with self.bench.open_silent_streams(server, self.unfinished):
                server.kill()
        self.bench.control.follow(ResponseScript(succeeded=False))
        with self.servers.start_on(variant, data) as server:
            figures["start"] = {
                "ready_seconds": server.ready_seconds,
                "recovered_seconds": server.ready_seconds + _seconds_until_ended(server),
                "cpu_seconds": server.cpu_seconds(),
                "mib": server.resident_kib() / 1024,
            }
            self.bench.fill(server, WARM_UP)
            figures["accept"] = self.bench.unary(server, CONCURRENCY, self.seconds, succeeded=True)
        return figures

    def list_page(self, server: RunningServer) -> Figures:
        """The newest page of generations."""
        request = generations_pb2.ListGenerationsRequest(page_size=PAGE)
        return self.bench.reads(
            server, "GenerationService/ListGenerations", request, self.seconds / 2
        )

    def usage(self, server: RunningServer) -> Figures:
        """The month's totals by model and day."""
        by = (usage_pb2.USAGE_DIMENSION_MODEL, usage_pb2.USAGE_DIMENSION_DAY)
        request = usage_pb2.GetUsageRequest(group_by=by)
        return self.bench.reads(server, "UsageService/GetUsage", request, self.seconds / 2)


def _seconds_until_ended(server: RunningServer) -> float:
    """Seconds until no generation is running."""
    begun = time.perf_counter()
    request = generations_pb2.ListGenerationsRequest(page_size=1)
    request.filter.states.extend(_OPEN)
    with grpc.insecure_channel(server.address) as channel:
        stub = generations_pb2_grpc.GenerationServiceStub(channel)
        while stub.ListGenerations(request).generations:
            if time.perf_counter() - begun > _PATIENCE:
                raise WrongResponse("what was under way has not ended")
            time.sleep(_LOOK_EVERY)
    return time.perf_counter() - begun
