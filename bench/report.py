"""What was measured, for people and for programs: ratios first, for only they can be compared."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from bench.servers_under_test import AVERAGE, ECHO, MEDIAGATE

Results = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Measurement, then contender, then figure: medians over the rounds."""

_PACKAGES = ("aiohttp", "grpcio", "orjson", "protobuf", "replicate", "uvloop")


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure that is held to a bound."""

    what: str
    bound: float
    at_least: bool
    of: Callable[[Results], float]

    def line(self, got: float) -> str:
        """As the table shows it."""
        met = got >= self.bound if self.at_least else got <= self.bound
        sign = ">=" if self.at_least else "<="
        return (
            f"  {self.what:<58} {got:8.2f}   {sign} {self.bound:<6g} {'met' if met else 'MISSED'}"
        )


GOALS = (
    Goal(
        "unary at 128, of the echo's calls a second",
        0.18,
        at_least=True,
        of=lambda r: _ratio(r, "unary succeeded c128", "rps", MEDIAGATE, ECHO),
    ),
    Goal(
        "unary at 128, times the average gateway's",
        1.5,
        at_least=True,
        of=lambda r: _ratio(r, "unary succeeded c128", "rps", MEDIAGATE, AVERAGE),
    ),
    Goal(
        "burst at 50 streams, times the average gateway's tokens/s",
        12,
        at_least=True,
        of=lambda r: _ratio(r, "burst s50", "tokens_per_second", MEDIAGATE, AVERAGE),
    ),
    Goal(
        "CPU per paced token, 50 x 20 ms, of the average gateway's",
        0.5,
        at_least=False,
        of=lambda r: _ratio(r, "paced s50 20ms", "cpu_us_per_token", MEDIAGATE, AVERAGE),
    ),
    Goal(
        "KiB for each of 1,000 idle streams",
        56,
        at_least=False,
        of=lambda r: r["idle"][MEDIAGATE]["kib_per_stream"],
    ),
    Goal(
        "seconds until ready",
        0.8,
        at_least=False,
        of=lambda r: r["start"][MEDIAGATE]["ready_seconds"],
    ),
)


_STORE_ROWS = (
    ("accept", "cpu_us", "CPU per call"),
    ("list", "p50_ms", "a page of the list"),
    ("usage", "p50_ms", "the month's usage"),
    ("start", "ready_seconds", "seconds until ready"),
    ("start", "recovered_seconds", "until all is recovered"),
)


def document(
    results: Results,
    *,
    extent: str,
    cores: Mapping[str, int | None],
    variant: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything, as JSON takes it."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "extent": extent,
        "cores": dict(cores),
        "side": dict(variant),
        "packages": {name: version(name) for name in _PACKAGES},
        "goals": [
            {"what": goal.what, "bound": goal.bound, "got": round(goal.of(results), 4)}
            for goal in GOALS
        ],
        "readings": dict(readings(results)),
        "results": {name: dict(figures) for name, figures in results.items()},
    }


def readings(results: Results) -> Iterator[tuple[str, float]]:
    """Ratios that are held to no bound."""
    for name, figures in results.items():
        if name.startswith("unary succeeded"):
            concurrency = name.rpartition("c")[2]
            what = f"CPU per call at {concurrency}, of the average gateway's"
            yield what, figures[MEDIAGATE]["cpu_us"] / figures[AVERAGE]["cpu_us"]
        elif name.startswith("calls at once"):
            yield (
                f"answered of {name.rpartition(' ')[2]} calls at once",
                figures[MEDIAGATE]["answered"],
            )
    yield from _growth(results)


def _growth(results: Results) -> Iterator[tuple[str, float]]:
    """Figures of the large store over those of the small one."""
    sizes = sorted({int(name.split()[1]) for name in results if name.startswith("store ")})
    for row, figure, what in _STORE_ROWS if sizes else ():
        small, large = (results[f"store {size} {row}"][MEDIAGATE][figure] for size in sizes)
        yield f"{what} with {sizes[1]:,} stored, of that with {sizes[0]:,}", large / small


def table(results: Results) -> Iterator[str]:
    """The lines to be printed."""
    yield "Ratios within this run"
    for goal in GOALS:
        yield goal.line(goal.of(results))
    for what, got in readings(results):
        yield f"  {what:<58} {got:8.2f}"
    yield ""
    yield "Figures of this machine"
    for name, by_server in results.items():
        for contender, figures in by_server.items():
            text = "  ".join(f"{key} {_number(value)}" for key, value in figures.items())
            yield f"  {name:<24} {contender:<10} {text}"


def _ratio(results: Results, name: str, figure: str, ours: str, theirs: str) -> float:
    return results[name][ours][figure] / results[name][theirs][figure]


def _number(value: float) -> str:
    if value >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
