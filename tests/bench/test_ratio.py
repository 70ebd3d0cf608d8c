"""What is claimed of two sides: a planted difference is found, none is seldom claimed."""

import math
from collections.abc import Callable
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.ratio import LEAST_ROUNDS, Ratio, Verdict

Noise = Callable[[Random], float]

NOISES: dict[str, tuple[int, Noise]] = {
    "even": (10, lambda random: random.gauss(0, 0.05)),
    "lopsided": (10, lambda random: random.expovariate(25)),
    "with outliers": (20, lambda random: random.gauss(0, 0.3 if random.random() < 0.1 else 0.04)),
}
"""Of one measurement; and how many rounds it takes to see a tenth through it."""

TRIALS = 4_000


def rounds_of(
    random: Random, rounds: int, noise: Noise, factor: float
) -> list[tuple[float, float]]:
    """Synthetic rounds: the machine's speed drifts by half, which is both sides'."""
    pairs = []
    for _ in range(rounds):
        drift = random.uniform(0.7, 1.4)
        this, other = (drift * math.exp(noise(random)) for _ in range(2))
        pairs.append((700 * factor * this, 700 * other))
    return pairs


def claims(seed: int, name: str, factor: float, verdict: Verdict) -> float:
    """The share of comparisons that say so."""
    random = Random(seed)
    rounds, noise = NOISES[name]
    said = [
        Ratio.of(rounds_of(random, rounds, noise, factor)).verdict(lower_is_better=True)
        for _ in range(TRIALS)
    ]
    return said.count(verdict) / TRIALS


@pytest.mark.parametrize("name", NOISES)
def test_false_positives_are_at_most_five_percent(seed: int, name: str) -> None:
    print(f"seed {seed}")
    quiet = claims(seed, name, 1.0, Verdict.NONE)
    assert 1 - quiet <= 0.05 + 0.015  # Four standard deviations of a share of 4,000.


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize(("factor", "verdict"), [(1.1, Verdict.WORSE), (1 / 1.1, Verdict.BETTER)])
def test_a_difference_of_ten_percent_is_detected(
    seed: int, name: str, factor: float, verdict: Verdict
) -> None:
    print(f"seed {seed}")
    assert claims(seed, name, factor, verdict) >= 0.9


@given(st.lists(st.floats(0.001, 2), min_size=LEAST_ROUNDS, max_size=9))
def test_noise_does_not_raise_the_false_positive_rate(sizes: list[float]) -> None:
    """Sides that are alike could as well have been measured the other way round, in each round."""
    wrong = 0
    for signs in product((1, -1), repeat=len(sizes)):
        pairs = [(math.exp(sign * size), 1.0) for sign, size in zip(signs, sizes, strict=True)]
        wrong += Ratio.of(pairs).verdict(lower_is_better=True) is not Verdict.NONE
    assert wrong / 2 ** len(sizes) <= 0.05


@given(
    st.lists(
        st.tuples(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6)), min_size=LEAST_ROUNDS, max_size=20
    )
)
def test_the_estimate_lies_in_its_interval_and_is_symmetric(
    pairs: list[tuple[float, float]],
) -> None:
    ratio = Ratio.of(pairs)
    turned = Ratio.of([(other, this) for this, other in pairs])
    assert ratio.low <= ratio.value <= ratio.high
    assert (turned.low, turned.value, turned.high) == pytest.approx(
        (1 / ratio.high, 1 / ratio.value, 1 / ratio.low)
    )


def test_the_interval_matches_known_values() -> None:
    """Of six from the least to the greatest; of ten from the ninth mean, as in the tables."""
    ratio = Ratio.of([(math.exp(each), 1.0) for each in range(1, 7)])
    assert (ratio.low, ratio.high) == pytest.approx((math.e, math.exp(6)))
    logs = [1.0, 2.5, 4.25, 6.125, 9.0, 13.5, 20.75, 31.0, 47.5, 70.0]
    means = sorted((a + b) / 2 for i, a in enumerate(logs) for b in logs[i:])
    ten = Ratio.of([(math.exp(each), 1.0) for each in logs])
    assert math.log(ten.low) == pytest.approx(means[8])
    assert math.log(ten.high) == pytest.approx(means[-9])


def test_figures_where_more_is_better() -> None:
    more = Ratio.of([(1.1 + each / 100, 1.0) for each in range(8)])
    assert more.verdict(lower_is_better=True) is Verdict.WORSE
    assert more.verdict(lower_is_better=False) is Verdict.BETTER


def test_too_few_rounds_give_no_verdict() -> None:
    few = Ratio.of([(2.0, 1.0)] * (LEAST_ROUNDS - 1))
    assert few.verdict(lower_is_better=True) is Verdict.TOO_FEW
    assert few.value == pytest.approx(2.0)
    assert (few.low, few.high) == (0, math.inf)


def test_equal_measurements_are_no_difference() -> None:
    alike = Ratio.of([(5.0, 5.0)] * 10)
    assert (alike.low, alike.value, alike.high) == (1, 1, 1)
    assert alike.verdict(lower_is_better=True) is Verdict.NONE
