"""A gate on a store that holds much: what accepting, reading and coming back cost then."""

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
"""Calls that a new gate answers before it is measured: what it does once is behind it then."""
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
    """Fills stores through a side's own gate, and measures what gates on them do."""

    stage: ServersUnderTest
    bench: Bench
    seconds: float
    unfinished: int

    def fill(self, side: Variant, generations: int) -> Path:
        """A data folder with so many generations, once the calls that warm up are in it."""
        data = Path(mkdtemp(prefix=f"store-{side.name}-", dir=self.stage.folder))
        left = generations - WARM_UP
        with self.stage.gate_on(side, data) as gate:
            while left > 0:
                self.bench.fill(gate, min(_PORTION, left))
                left -= _PORTION
                print(f"{side.name}: {max(left, 0):,} to be stored", file=sys.stderr, flush=True)
        return data

    def measure(self, side: Variant, data: Path) -> dict[str, Figures]:
        """Everything that is measured on a store, by name. Accepting comes last: it adds to it."""
        with self.stage.gate_on(side, data) as gate:
            self.bench.fill(gate, WARM_UP)
            found = {"list": self.list_page(gate), "usage": self.usage(gate)}
            with self.bench.held_streams(gate, self.unfinished):
                gate.kill()
        self.bench.control.follow(ResponseScript(succeeded=False))
        with self.stage.gate_on(side, data) as gate:
            found["start"] = {
                "ready_seconds": gate.ready_seconds,
                "recovered_seconds": gate.ready_seconds + _seconds_until_ended(gate),
                "cpu_seconds": gate.cpu_seconds(),
                "mib": gate.resident_kib() / 1024,
            }
            self.bench.fill(gate, WARM_UP)
            found["accept"] = self.bench.unary(gate, CONCURRENCY, self.seconds, succeeded=True)
        return found

    def list_page(self, gate: RunningServer) -> Figures:
        """The newest page of generations."""
        request = generations_pb2.ListGenerationsRequest(page_size=PAGE)
        return self.bench.reads(
            gate, "GenerationService/ListGenerations", request, self.seconds / 2
        )

    def usage(self, gate: RunningServer) -> Figures:
        """The month's totals by model and day."""
        by = (usage_pb2.USAGE_DIMENSION_MODEL, usage_pb2.USAGE_DIMENSION_DAY)
        request = usage_pb2.GetUsageRequest(group_by=by)
        return self.bench.reads(gate, "UsageService/GetUsage", request, self.seconds / 2)


def _seconds_until_ended(gate: RunningServer) -> float:
    """How long until nothing of what the gate knows is under way."""
    begun = time.perf_counter()
    request = generations_pb2.ListGenerationsRequest(page_size=1)
    request.filter.states.extend(_OPEN)
    with grpc.insecure_channel(gate.address) as channel:
        stub = generations_pb2_grpc.GenerationServiceStub(channel)
        while stub.ListGenerations(request).generations:
            if time.perf_counter() - begun > _PATIENCE:
                raise WrongResponse("what was under way has not ended")
            time.sleep(_LOOK_EVERY)
    return time.perf_counter() - begun
