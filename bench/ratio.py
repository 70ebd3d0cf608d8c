"""The ratio of paired measurements, with an interval: Wilcoxon's signed ranks on its logarithm.

Every round measures both sides one after the other in an order that was drawn. Where there is no
difference, each pair is as likely to be the other way round, so the signs of the log ratios are
coin tosses, whatever the noise is like: the interval excludes 1 in at most 5 % of such cases,
exactly, for any number of rounds (docs/decisions/0022).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import combinations_with_replacement
from statistics import median
from typing import Self

CONFIDENCE = 0.95
LEAST_ROUNDS = 6
"""With fewer, not even signs that are all alike are rarer than one in twenty."""


class Verdict(StrEnum):
    """What the interval says of this side, compared with the other."""

    BETTER = "better"
    WORSE = "worse"
    NONE = "no difference seen"
    TOO_FEW = "too few rounds"


@dataclass(frozen=True, slots=True)
class Ratio:
    """This side's figure over the other's: the Hodges-Lehmann estimate and its interval.

    The estimate is the median of the means of all pairs of rounds (of their logarithms). `low` and
    `high` are 0 and infinity where there are too few rounds.
    """

    value: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> Self:
        """From (this, other) of each round. All figures are above zero."""
        logs = [math.log(this / other) for this, other in pairs]
        means = sorted((a + b) / 2 for a, b in combinations_with_replacement(logs, 2))
        rank = _rank(len(logs))
        low, high = (means[rank - 1], means[-rank]) if rank else (-math.inf, math.inf)
        return cls(math.exp(median(means)), math.exp(low), math.exp(high), len(logs))

    @property
    def bounded(self) -> bool:
        """There were rounds enough for an interval."""
        return self.rounds >= LEAST_ROUNDS

    def verdict(self, *, lower_is_better: bool) -> Verdict:
        """Better or worse only where the interval excludes 1."""
        if not self.bounded:
            return Verdict.TOO_FEW
        if self.low <= 1 <= self.high:
            return Verdict.NONE
        return Verdict.WORSE if (self.low > 1) == lower_is_better else Verdict.BETTER


@cache
def _rank(rounds: int) -> int:
    """Which of the sorted means bounds the interval, from 1; 0 where none does.

    The interval from the k-th smallest to the k-th largest misses with twice the probability that
    a sum of signed ranks is under k, each rank counting with probability one half.
    """
    ways = [1]  # ways[s]: subsets of the ranks so far with the sum s
    for rank in range(1, rounds + 1):
        longer = [*ways, *[0] * rank]
        for total, count in enumerate(ways):
            longer[total + rank] += count
        ways = longer
    missed, bound = 0, 0
    for count in ways:
        missed += count
        if 2 * missed > (1 - CONFIDENCE) * 2**rounds:
            break
        bound += 1
    return bound
