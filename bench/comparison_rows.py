"""Rows of a comparison: what is measured, and which figures are judged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.measurements import Bench, Figures
from bench.run_size import RunSize
from bench.server_processes import RunningServer

Measure = Callable[[Bench, RunSize, RunningServer], Figures]


@dataclass(frozen=True, slots=True)
class JudgedFigure:
    """A figure that says better or worse."""

    figure: str
    lower_is_better: bool = True


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One measurement of a running server; `judged`: the figures of it that are compared."""

    name: str
    judged: tuple[JudgedFigure, ...]
    measure: Measure


def _calls(concurrency: int) -> ComparisonRow:
    def measure(bench: Bench, run_size: RunSize, server: RunningServer) -> Figures:
        return bench.unary(server, concurrency, run_size.unary_seconds, succeeded=True)

    latency = (
        JudgedFigure("p50_ms") if concurrency == 1 else JudgedFigure("rps", lower_is_better=False)
    )
    return ComparisonRow(f"calls_c{concurrency}", (JudgedFigure("cpu_us"), latency), measure)


def _at_once(bench: Bench, run_size: RunSize, server: RunningServer) -> Figures:
    return bench.concurrent_calls(server, run_size.calls_at_once)


def _burst(bench: Bench, run_size: RunSize, server: RunningServer) -> Figures:
    return bench.burst(server, 50, run_size.burst_tokens)


def _paced(bench: Bench, run_size: RunSize, server: RunningServer) -> Figures:
    return bench.paced(server, *run_size.paced[0])


RUNNING: Sequence[ComparisonRow] = (
    _calls(1),
    _calls(16),
    _calls(128),
    ComparisonRow(
        "calls_at_once",
        (JudgedFigure("answered", lower_is_better=False), JudgedFigure("cpu_us")),
        _at_once,
    ),
    ComparisonRow("burst_s50", (JudgedFigure("cpu_us_per_token"),), _burst),
    ComparisonRow("paced_s50", (JudgedFigure("cpu_us_per_token"),), _paced),
)
"""Of two servers that run side by side; only one has work at a time."""

FRESH = "fresh"
"""Of a server that has just been started: time and processor time to start, memory of streams."""

STORE = "store"
"""Of a server on a large store; all of StoreBench."""

SEPARATE = {
    FRESH: {
        "start": (JudgedFigure("ready_seconds"), JudgedFigure("cpu_seconds"), JudgedFigure("mib")),
        "idle": (JudgedFigure("kib_per_stream"),),
    },
    STORE: {
        "store_accept": (JudgedFigure("cpu_us"), JudgedFigure("p50_ms")),
        "store_list": (JudgedFigure("cpu_us"),),
        "store_usage": (JudgedFigure("cpu_us"),),
        "store_start": (JudgedFigure("ready_seconds"), JudgedFigure("recovered_seconds")),
    },
}
"""Rows that need servers of their own: which figures of them are judged."""

JUDGED = {row.name: row.judged for row in RUNNING} | {
    name: judged for rows in SEPARATE.values() for name, judged in rows.items()
}
NAMES = (*(row.name for row in RUNNING), *SEPARATE)
"""What can be chosen."""
