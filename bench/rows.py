"""What a comparison measures: rows, each with the figures that are judged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.extent import Extent
from bench.measuring import Bench, Figures
from bench.processes import Running

Measure = Callable[[Bench, Extent, Running], Figures]


@dataclass(frozen=True, slots=True)
class Judged:
    """A figure that says better or worse."""

    figure: str
    lower_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement of a gate that runs; `judged`: the figures of it that are compared."""

    name: str
    judged: tuple[Judged, ...]
    measure: Measure


def _calls(concurrency: int) -> Row:
    def measure(bench: Bench, extent: Extent, gate: Running) -> Figures:
        return bench.unary(gate, concurrency, extent.unary_seconds, succeeded=True)

    latency = Judged("p50_ms") if concurrency == 1 else Judged("rps", lower_is_better=False)
    return Row(f"calls_c{concurrency}", (Judged("cpu_us"), latency), measure)


def _at_once(bench: Bench, extent: Extent, gate: Running) -> Figures:
    return bench.at_once(gate, extent.calls_at_once)


def _burst(bench: Bench, extent: Extent, gate: Running) -> Figures:
    return bench.burst(gate, 50, extent.burst_tokens)


def _paced(bench: Bench, extent: Extent, gate: Running) -> Figures:
    return bench.paced(gate, *extent.paced[0])


RUNNING: Sequence[Row] = (
    _calls(1),
    _calls(16),
    _calls(128),
    Row(
        "calls_at_once",
        (Judged("answered", lower_is_better=False), Judged("cpu_us")),
        _at_once,
    ),
    Row("burst_s50", (Judged("cpu_us_per_token"),), _burst),
    Row("paced_s50", (Judged("cpu_us_per_token"),), _paced),
)
"""Of two gates that run side by side; only one has work at a time."""

FRESH = "fresh"
"""Of a gate that has just been started: time and processor time to start, memory of streams."""

STORE = "store"
"""Of a gate on a large store; all of StoreBench."""

SEPARATE = {
    FRESH: {
        "start": (Judged("ready_seconds"), Judged("cpu_seconds"), Judged("mib")),
        "idle": (Judged("kib_per_stream"),),
    },
    STORE: {
        "store_accept": (Judged("cpu_us"), Judged("p50_ms")),
        "store_list": (Judged("cpu_us"),),
        "store_usage": (Judged("cpu_us"),),
        "store_start": (Judged("ready_seconds"), Judged("recovered_seconds")),
    },
}
"""Rows that need gates of their own: which figures of them are judged."""

JUDGED = {row.name: row.judged for row in RUNNING} | {
    name: judged for rows in SEPARATE.values() for name, judged in rows.items()
}
NAMES = (*(row.name for row in RUNNING), *SEPARATE)
"""What can be chosen."""
