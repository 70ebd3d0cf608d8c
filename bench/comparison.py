"""Comparison of two variants in paired, shuffled rounds: measurements of both, and ratios.

A round starts new servers of both variants, so that what one process happens to be like (its memory
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
        variants: tuple[Variant, Variant],
        bench: Bench,
        store: StoreBench,
        run_size: RunSize,
        chosen: Sequence[str],
        seed: int,
    ) -> None:
        self._variants = variants
        self._bench = bench
        self._store = store
        self._run_size = run_size
        self._random = Random(seed)
        self._rows = [row for row in RUNNING if row.name in chosen]
        self._scenes: list[Callable[[], None]] = [self._run] if self._rows else []
        self._scenes += [self._fresh] if FRESH in chosen else []
        self._scenes += [self._stored] if STORE in chosen else []
        self._with_store = STORE in chosen
        self._data: Mapping[str, Path] = {}
        self._comparison = Comparison()

    def run(self, rounds: int) -> Comparison:
        """So many rounds."""
        if self._with_store:
            self._data = {
                variant.name: self._store.fill(variant, self._run_size.stores[1])
                for variant in self._shuffled(self._variants)
            }
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
            for scene in self._shuffled(self._scenes):
                scene()
        return self._comparison

    def _run(self) -> None:
        with ExitStack() as stack:
            servers = {
                variant.name: stack.enter_context(self._store.servers.start_new(variant))
                for variant in self._shuffled(self._variants)
            }
            for name, server in servers.items():
                try:
                    self._bench.fill(server, WARM_UP)
                except WrongResponse as wrong:
                    self._fail([row.name for row in self._rows], name, wrong)
                    return
            for row in self._shuffled(self._rows):

                def measured(variant: Variant, row: ComparisonRow = row) -> dict[str, Figures]:
                    server = servers[variant.name]
                    return {row.name: row.measure(self._bench, self._run_size, server)}

                self._pair(row.name, measured)

    def _fresh(self) -> None:
        def measured(variant: Variant) -> dict[str, Figures]:
            with self._store.servers.start_new(variant) as server:
                start = {
                    "ready_seconds": server.ready_seconds,
                    "cpu_seconds": server.cpu_seconds(),
                    "mib": server.resident_kib() / 1024,
                }
                return {
                    "start": start,
                    "idle": self._bench.idle(server, self._run_size.idle_streams),
                }

        self._pair(FRESH, measured)

    def _stored(self) -> None:
        def measured(variant: Variant) -> dict[str, Figures]:
            results = self._store.measure(variant, self._data[variant.name])
            return {f"store_{name}": figures for name, figures in results.items()}

        self._pair(STORE, measured)

    def _pair(self, name: str, measured: Callable[[Variant], dict[str, Figures]]) -> None:
        """Both sides once. What does not work for one of them has no figure for either."""
        results: dict[str, dict[str, Figures]] = {}
        for variant in self._shuffled(self._variants):
            try:
                results[variant.name] = measured(variant)
            except WrongResponse as wrong:
                self._fail(SEPARATE.get(name, (name,)), variant.name, wrong)
                return
        this, other = (results[variant.name] for variant in self._variants)
        for row, figures in this.items():
            self._comparison.pairs[row].append((figures, other[row]))
            text = "  ".join(
                f"{judged.figure} {figures[judged.figure]:.4g} / {other[row][judged.figure]:.4g}"
                for judged in JUDGED[row]
            )
            print(f"  {row:<14} {text}", file=sys.stderr, flush=True)

    def _fail(self, rows: Iterable[str], variant: str, wrong: WrongResponse) -> None:
        for row in rows:
            self._comparison.failed.setdefault(row, f"{variant}: {wrong}")
        print(f"{', '.join(rows)}: {variant}: {wrong}", file=sys.stderr, flush=True)

    def _shuffled(self, things: Sequence[T]) -> list[T]:
        return self._random.sample(list(things), len(things))
