"""The arithmetic of money: exact, rounded once, and unknown rather than zero."""

from decimal import Decimal
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.catalog.pricing import prices
from mediagate_server.catalog.pricing.prices import (
    Criterion,
    PriceRate,
    PriceSchedule,
    Scalar,
    Tier,
    compute_cost,
    to_nanos,
    to_quantity,
)

AMOUNTS = st.integers(0, 10**15) | st.decimals(
    0, 10**12, allow_nan=False, allow_infinity=False, places=None
).filter(lambda number: to_quantity(number) is not None)
PRICES = st.decimals(0, 1000, places=9, allow_nan=False, allow_infinity=False)
PERS = st.sampled_from([1, 10, 1000, 10**6])
NAMES = st.sampled_from(["tokens_in", "tokens_out", "seconds", "lines", "sound"])
SELECTORS = st.booleans() | st.sampled_from(["480p", "720p", "pro"]) | AMOUNTS


@st.composite
def criteria(draw: st.DrawFn) -> Criterion:
    """Equal to a word, or within a range."""
    if draw(st.booleans()):
        return Criterion(draw(NAMES), equals=draw(st.sampled_from(["480p", "true", "pro"])))
    over, up_to = sorted(draw(st.tuples(PRICES, PRICES)))
    return Criterion(draw(NAMES), over=over, up_to=up_to)


RATES = st.builds(
    PriceRate, st.lists(NAMES, min_size=1, max_size=2, unique=True).map(tuple), PRICES, PERS
)
TIERS = st.builds(
    Tier,
    st.lists(RATES, min_size=1, max_size=3).map(tuple),
    st.lists(criteria(), max_size=2).map(tuple),
)
SCHEDULES = st.builds(
    PriceSchedule,
    st.lists(TIERS, max_size=3).map(tuple),
    as_of=st.sampled_from(["2026", "2026-10-07"]),
    source=st.just("model page"),
    sent=st.dictionaries(NAMES, SELECTORS, max_size=2),
    assumed=st.booleans(),
)


def flat(*rates: PriceRate, **words: Scalar) -> PriceSchedule:
    """One tier that always holds."""
    return PriceSchedule((Tier(rates),), as_of="2026", source="model page", sent=words)


def by_lines(lines: str, usd: str) -> Tier:
    """A price per second for one resolution."""
    rate = PriceRate(("seconds",), Decimal(usd), 1)
    return Tier((rate,), (Criterion("lines", equals=lines),))


@given(st.lists(st.tuples(AMOUNTS, PRICES, PERS), min_size=1, max_size=4))
def test_a_charge_is_the_exact_sum_rounded_half_up_once(
    terms: list[tuple[Decimal | int, Decimal, int]],
) -> None:
    """Against fractions, which cannot round."""
    schedule = flat(*(PriceRate((f"m{n}",), usd, per) for n, (_, usd, per) in enumerate(terms)))
    metrics = {f"m{n}": amount for n, (amount, _, _) in enumerate(terms)}
    exact = sum(Fraction(amount) * Fraction(usd) / per for amount, usd, per in terms)
    assert compute_cost(schedule, metrics) == floor(exact * 10**9 + Fraction(1, 2))


@given(
    st.lists(
        st.tuples(st.integers(0, 10**70), st.integers(0, 10**12), PERS), min_size=1, max_size=4
    )
)
def test_integer_arithmetic_agrees_with_fractions(
    terms: list[tuple[int, int, int]],
) -> None:
    """Their way is another one, up to where an amount is none any more."""
    rates = [
        PriceRate((f"m{n}",), Decimal(nanos * per).scaleb(-9), per)
        for n, (_, nanos, per) in enumerate(terms)
    ]
    metrics = {f"m{n}": amount for n, (amount, _, _) in enumerate(terms)}
    billed = all(amount < 10**60 for amount in metrics.values())
    exact = sum(amount * nanos for amount, nanos, _ in terms)
    assert compute_cost(flat(*rates), metrics) == (exact if billed else None)


def test_only_the_sum_is_rounded() -> None:
    """Two halves make one nano, not two."""
    half = PriceRate(("m",), Decimal("0.0000000005"), 1)
    assert compute_cost(flat(half), {"m": 1}) == 1
    assert compute_cost(flat(half, half), {"m": 1}) == 1
    assert compute_cost(flat(half), {"m": Decimal("0.999")}) == 0


@given(SCHEDULES, st.dictionaries(NAMES, SELECTORS, max_size=5), st.none() | st.integers(0, 9))
def test_a_cost_is_unknown_or_a_whole_number_that_is_not_negative(
    schedule: PriceSchedule, metrics: dict[str, Scalar], outputs: int | None
) -> None:
    """Never a fraction, never a float, and the same each time."""
    amount = compute_cost(schedule, metrics, outputs=outputs)
    assert amount is None or (type(amount) is int and amount >= 0)
    assert amount == compute_cost(schedule, metrics, outputs=outputs)


@given(SCHEDULES, st.dictionaries(NAMES, SELECTORS, max_size=5))
def test_a_stored_price_settles_the_same(
    schedule: PriceSchedule, metrics: dict[str, Scalar]
) -> None:
    """Written and read back it is equal, digit for digit."""
    text = prices.dump_price(schedule)
    again = prices.load_price(text)
    assert again == schedule
    assert prices.dump_price(again) == text
    assert compute_cost(again, metrics) == compute_cost(schedule, metrics)


@given(AMOUNTS.map(Decimal), AMOUNTS.map(Decimal))
def test_cost_grows_with_usage(amount: Decimal, other_amount: Decimal) -> None:
    """A charge grows with the metric."""
    schedule = flat(PriceRate(("m",), Decimal("0.65"), 10**6))
    low, high = sorted([amount, other_amount])
    cheap, dear = compute_cost(schedule, {"m": low}), compute_cost(schedule, {"m": high})
    assert cheap is not None
    assert dear is not None
    assert cheap <= dear


def test_unknown_is_not_zero() -> None:
    """No price, no metric, or a metric that is no amount: None; a metric of zero costs zero."""
    rates = flat(PriceRate(("a",), Decimal(1), 1), PriceRate(("b",), Decimal(1), 1))
    assert compute_cost(PriceSchedule((), "", ""), {"a": 1}) is None
    assert compute_cost(rates, {"a": 1}) is None
    assert compute_cost(rates, {}) is None
    assert compute_cost(rates, {"a": 1, "b": 0}) == 10**9
    assert compute_cost(rates, {"a": 0, "b": 0}) == 0


@pytest.mark.parametrize(
    "garbage",
    ["12", True, -1, Decimal("-0.5"), Decimal("NaN"), Decimal("Infinity"), Decimal("1E+999999")],
)
def test_invalid_metrics_have_no_amount(garbage: Scalar) -> None:
    """Upstream may send anything: it makes the cost unknown, not wrong, and nothing breaks."""
    assert compute_cost(flat(PriceRate(("m",), Decimal(1), 1)), {"m": garbage}) is None


def test_floats_are_refused() -> None:
    """A float has lost digits already."""
    with pytest.raises(TypeError):
        compute_cost(flat(PriceRate(("m",), Decimal(1), 1)), {"m": 0.1})  # type: ignore[dict-item]


def test_the_first_present_metric_name_counts() -> None:
    """Two spellings of one metric are charged once, the newer one first."""
    schedule = flat(PriceRate(("new", "old"), Decimal(1), 1))
    assert compute_cost(schedule, {"old": 3}) == 3 * 10**9
    assert compute_cost(schedule, {"old": 3, "new": 2}) == 2 * 10**9
    assert compute_cost(schedule, {"old": 3, "new": "many"}) is None


def test_delivered_outputs_count_only_where_configured() -> None:
    """Our own count comes last, only where named, and upstream cannot forge it."""
    named = flat(PriceRate(("image_output_count", "output_count"), Decimal("0.04"), 1))
    unnamed = flat(PriceRate(("image_output_count",), Decimal("0.04"), 1))
    assert compute_cost(named, {}, outputs=3) == 120_000_000
    assert compute_cost(named, {"image_output_count": 2}, outputs=3) == 80_000_000
    assert compute_cost(named, {}) is None
    assert compute_cost(named, {"output_count": 9}) is None
    assert compute_cost(named, {"output_count": 9}, outputs=3) == 120_000_000
    assert compute_cost(unnamed, {}, outputs=3) is None


def test_reported_metrics_choose_the_tier_before_inputs() -> None:
    """What was sent stands in only where upstream is silent."""
    tiers = (by_lines("480p", "0.03"), by_lines("1080p", "0.15"))
    schedule = PriceSchedule(tiers, "2026", "model page", sent={"lines": "480p"})
    assert compute_cost(schedule, {"seconds": 5}) == 150_000_000
    assert compute_cost(schedule, {"seconds": 5, "lines": "1080P"}) == 750_000_000


def test_the_dearest_tier_applies_if_none_matches() -> None:
    """A resolution that is not on the list is not sold at the lowest price."""
    tiers = (by_lines("480p", "0.03"), by_lines("1080p", "0.15"), by_lines("720p", "0.06"))
    schedule = PriceSchedule(tiers, "2026", "model page")
    assert compute_cost(schedule, {"seconds": 2, "lines": "4k"}) == 300_000_000
    assert compute_cost(schedule, {"seconds": 2}) == 300_000_000
    other = Tier((PriceRate(("frames",), Decimal(9), 1),), (Criterion("lines", equals="8k"),))
    partly = PriceSchedule((*tiers, other), "2026", "model page")
    assert compute_cost(partly, {"seconds": 2, "lines": "4k"}) is None, (
        "a tier that cannot be compared"
    )


def test_inputs_choose_a_tier_but_are_not_charged() -> None:
    """A length that was sent chooses a tier, but only a reported length is paid."""
    rate = PriceRate(("seconds",), Decimal(1), 1)
    tier = Tier((rate,), (Criterion("seconds", over=Decimal(0), up_to=Decimal(6)),))
    schedule = PriceSchedule((tier,), "2026", "model page", sent={"seconds": 5})
    assert compute_cost(schedule, {}) is None
    assert compute_cost(schedule, {"seconds": 6}) == 6 * 10**9


@pytest.mark.parametrize(
    ("value", "matches"), [(5, False), (6, True), (Decimal("9.99"), True), (10, True), (11, False)]
)
def test_ranges_exclude_their_lower_and_include_their_upper_end(
    value: Scalar, matches: bool
) -> None:
    """Over 5 and up to 10."""
    criterion = Criterion("seconds", over=Decimal(5), up_to=Decimal(10))
    assert criterion.matches({"seconds": value}) is matches


def test_booleans_match_as_words() -> None:
    """True and false, and nothing else, whatever case."""
    criterion = Criterion("with_audio", equals="true")
    assert criterion.matches({"with_audio": True})
    assert not criterion.matches({"with_audio": False})
    assert not criterion.matches({"with_audio": 1})
    assert not criterion.matches({})


@pytest.mark.parametrize("per", [0, -1000, 3, 1500])
def test_a_price_is_for_a_power_of_ten(per: int) -> None:
    """Anything else could not be divided exactly."""
    with pytest.raises(ValueError, match="power of ten"):
        PriceRate(("m",), Decimal(1), per)


@pytest.mark.parametrize("usd", ["-1", "NaN", "Infinity"])
def test_a_price_is_finite_and_not_negative(usd: str) -> None:
    """Not negative, not endless."""
    with pytest.raises(ValueError, match="usd"):
        PriceRate(("m",), Decimal(usd), 1)


@given(st.decimals(0, 10**9, places=12, allow_nan=False, allow_infinity=False))
def test_dollars_become_nanos_half_up(usd: Decimal) -> None:
    """The one rounding."""
    assert to_nanos(usd) == floor(Fraction(usd) * 10**9 + Fraction(1, 2))
