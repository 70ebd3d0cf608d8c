"""Two gates in paired, shuffled rounds: what was measured of both, and the ratios.

A round starts new gates of both sides, so that what one process happens to be like (its memory
layout, its hashes) is drawn anew, too. Within it the rows come in an order that is drawn, and each
measures both sides one after the other, in an order that is drawn.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

from bench.comparison_rows import FRESH, JUDGED, RUNNING, SEPARATE, STORE, ComparisonRow
from bench.measurements import Bench, Figures, WrongResponse
from bench.ratio import Ratio, Verdict
from bench.run_size import RunSize
from bench.store_bench import WARM_UP, StoreBench
from bench.variants import Variant

T = TypeVar("T")
Pair = tuple[Figures, Figures]


@dataclass(frozen=True, slots=True)
class Compared:
    """One judged figure of one row."""

    row: str
    figure: str
    ratio: Ratio
    verdict: Verdict
    lower_is_better: bool


@dataclass(slots=True)
class Comparison:
    """What was found. `failed`: rows that gave no figure, and why."""

    pairs: dict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))
    failed: dict[str, str] = field(default_factory=dict)

    def compared(self) -> list[Compared]:
        """Every judged figure of every row that was measured to its end."""
        return [
            _compare(row, judged.figure, pairs, lower_is_better=judged.lower_is_better)
            for row, figures in JUDGED.items()
            if (pairs := self.pairs.get(row)) and row not in self.failed
            for judged in figures
        ]


def _compare(row: str, figure: str, pairs: Sequence[Pair], *, lower_is_better: bool) -> Compared:
    ratio = Ratio.of([(this[figure], other[figure]) for this, other in pairs])
    verdict = ratio.verdict(lower_is_better=lower_is_better)
    return Compared(row, figure, ratio, verdict, lower_is_better)


class Rounds:
    """Measures two sides. `chosen`: names of rows."""

    def __init__(
        self,
        sides: tuple[Variant, Variant],
        bench: Bench,
        store: StoreBench,
        extent: RunSize,
        chosen: Sequence[str],
        seed: int,
    ) -> None:
        self._sides = sides
        self._bench = bench
        self._store = store
        self._extent = extent
        self._random = Random(seed)
        self._rows = [row for row in RUNNING if row.name in chosen]
        self._scenes: list[Callable[[], None]] = [self._run] if self._rows else []
        self._scenes += [self._fresh] if FRESH in chosen else []
        self._scenes += [self._stored] if STORE in chosen else []
        self._with_store = STORE in chosen
        self._data: Mapping[str, Path] = {}
        self._found = Comparison()

    def run(self, rounds: int) -> Comparison:
        """So many rounds."""
        if self._with_store:
            self._data = {
                side.name: self._store.fill(side, self._extent.stores[1])
                for side in self._shuffled(self._sides)
            }
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
            for scene in self._shuffled(self._scenes):
                scene()
        return self._found

    def _run(self) -> None:
        stage = self._store.stage
        with ExitStack() as stack:
            gates = {
                side.name: stack.enter_context(stage.new_gate(side))
                for side in self._shuffled(self._sides)
            }
            for name, gate in gates.items():
                try:
                    self._bench.fill(gate, WARM_UP)
                except WrongResponse as wrong:
                    self._fail([row.name for row in self._rows], name, wrong)
                    return
            for row in self._shuffled(self._rows):

                def measured(side: Variant, row: ComparisonRow = row) -> dict[str, Figures]:
                    gate = gates[side.name]
                    return {row.name: row.measure(self._bench, self._extent, gate)}

                self._pair(row.name, measured)

    def _fresh(self) -> None:
        def measured(side: Variant) -> dict[str, Figures]:
            with self._store.stage.new_gate(side) as gate:
                start = {
                    "ready_seconds": gate.ready_seconds,
                    "cpu_seconds": gate.cpu_seconds(),
                    "mib": gate.resident_kib() / 1024,
                }
                return {"start": start, "idle": self._bench.idle(gate, self._extent.idle_streams)}

        self._pair(FRESH, measured)

    def _stored(self) -> None:
        def measured(side: Variant) -> dict[str, Figures]:
            found = self._store.measure(side, self._data[side.name])
            return {f"store_{name}": figures for name, figures in found.items()}

        self._pair(STORE, measured)

    def _pair(self, name: str, measured: Callable[[Variant], dict[str, Figures]]) -> None:
        """Both sides once. What does not work for one of them has no figure for either."""
        found: dict[str, dict[str, Figures]] = {}
        for side in self._shuffled(self._sides):
            try:
                found[side.name] = measured(side)
            except WrongResponse as wrong:
                self._fail(SEPARATE.get(name, (name,)), side.name, wrong)
                return
        this, other = (found[side.name] for side in self._sides)
        for row, figures in this.items():
            self._found.pairs[row].append((figures, other[row]))
            told = "  ".join(
                f"{judged.figure} {figures[judged.figure]:.4g} / {other[row][judged.figure]:.4g}"
                for judged in JUDGED[row]
            )
            print(f"  {row:<14} {told}", file=sys.stderr, flush=True)

    def _fail(self, rows: Iterable[str], side: str, wrong: WrongResponse) -> None:
        for row in rows:
            self._found.failed.setdefault(row, f"{side}: {wrong}")
        print(f"{', '.join(rows)}: {side}: {wrong}", file=sys.stderr, flush=True)

    def _shuffled(self, things: Sequence[T]) -> list[T]:
        return self._random.sample(list(things), len(things))
