"""Run durations of each model: median and 90th percentile of the last ones. In memory."""

from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from mediagate_server.store.records import RunEstimate

MAX_MODELS: Final = 1_000
MAX_RUNS: Final = 64
"""The last ones of a model that count."""
MIN_RUNS: Final = 8
"""Runs of a model by which the time of others is split."""
_LONGEST: Final = 7 * 86_400.0


class RunDurations:
    """Of generations that succeeded, from the start of their run to its end. Seconds."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, tuple[deque[float], list[float]]] = OrderedDict()
        """By model, the last used last: its runs in order of time, and in order of length."""

    def add(self, model: str, seconds: float) -> None:
        """One more run. What cannot be is left out."""
        if not 0 <= seconds <= _LONGEST:
            return
        known = self._models.get(model)
        if known is None:
            if len(self._models) >= MAX_MODELS:
                self._models.popitem(last=False)
            known = self._models[model] = (deque(), [])
        else:
            self._models.move_to_end(model)
        runs, by_length = known
        runs.append(seconds)
        insort(by_length, seconds)
        if len(runs) > MAX_RUNS:
            del by_length[bisect_left(by_length, runs.popleft())]

    def load(self, runs: Iterable[tuple[str, float]]) -> None:
        """Those of earlier processes, the newest first; they come before any that are known."""
        known = [(model, list(runs)) for model, (runs, _) in self._models.items()]
        self._models.clear()
        for model, seconds in reversed(tuple(runs)):
            self.add(model, seconds)
        for model, own in known:
            for seconds in own:
                self.add(model, seconds)

    def usual(self, model: str) -> float | None:
        """What nine in ten runs do not exceed; None where there were too few to tell."""
        known = self._models.get(model)
        if known is None or len(known[1]) < MIN_RUNS:
            return None
        return known[1][-(-9 * len(known[1]) // 10) - 1]

    def estimate(self, model: str, started_at: datetime) -> RunEstimate | None:
        """When a run that has begun then is expected to end; None where there was none before."""
        known = self._models.get(model)
        if known is None:
            return None
        by_length = known[1]
        count = len(by_length)
        # The lower of two in the middle, and the first that nine in ten do not exceed.
        median, p90 = by_length[(count - 1) // 2], by_length[-(-9 * count // 10) - 1]
        return RunEstimate(
            started_at + timedelta(seconds=median), started_at + timedelta(seconds=p90)
        )
