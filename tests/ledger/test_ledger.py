"""The book: what each end of an attempt costs, and that unknown never counts as nothing."""

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server import ledger
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.pricing import prices
from mediagate_server.catalog.pricing.prices import PriceRate, PriceSchedule, Scalar, Tier
from mediagate_server.catalog.request import Modality, ModelRequest
from mediagate_server.generations.recovery.ledger_reconciler import compare_charges
from mediagate_server.store.ledger_reconciliations import SettledCharge
from mediagate_server.store.records import CostState, LedgerEntry, LedgerEntryKind
from mediagate_server.structs import replace
from mediagate_server.upstream.port import Prediction, PredictionStatus
from tests.catalog.builders import shipped_catalog

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
CATALOG = shipped_catalog()
PER_IMAGE = PriceSchedule(
    (Tier((PriceRate(("image_output_count", "output_count"), Decimal("0.04"), 1),)),),
    "2026-10",
    "page",
)
PER_SECOND = PriceSchedule(
    (Tier((PriceRate(("predict_time",), Decimal("0.001"), 1),)),), "2026", "page"
)
PER_FILM_SECOND = PriceSchedule(
    (Tier((PriceRate(("video_output_duration_seconds",), Decimal("0.1"), 1),)),), "2026", "page"
)
NO_PRICE = PriceSchedule((), "", "")
ENDS = [status for status in PredictionStatus if status.is_terminal]


def plan_for(model: str, modality: Modality = Modality.IMAGE) -> Plan:
    """A run of a model of the shipped catalog."""
    return CATALOG.plan(ModelRequest(modality, model, {"prompt": "a fox"}))


@pytest.mark.parametrize(
    ("price", "status", "metrics", "outputs", "amount"),
    [
        (PER_IMAGE, "succeeded", {"image_output_count": 2}, 2, 80_000_000),
        (PER_IMAGE, "succeeded", {}, 3, 120_000_000),
        (PER_IMAGE, "succeeded", {}, 0, None),
        (PER_IMAGE, "succeeded", {"image_output_count": 0}, 0, 0),
        (PER_IMAGE, "failed", {"image_output_count": 0}, 0, 0),
        (PER_IMAGE, "failed", {}, 0, 0),
        (PER_FILM_SECOND, "failed", {}, 0, 0),
        (PER_FILM_SECOND, "failed", {"video_output_duration_seconds": 2}, 0, 200_000_000),
        (PER_FILM_SECOND, "canceled", {}, 0, 0),
        (PER_FILM_SECOND, "succeeded", {}, 1, None),
        (PER_IMAGE, "failed", {}, 1, None),
        (PER_IMAGE, "canceled", {}, 0, 0),
        (PER_IMAGE, "canceled", {}, 1, None),
        (PER_IMAGE, "aborted", {}, 0, 0),
        (PER_SECOND, "succeeded", {"predict_time": Decimal("2.5")}, 1, 2_500_000),
        (PER_SECOND, "succeeded", {}, 1, None),
        (PER_SECOND, "failed", {"predict_time": Decimal("2.5")}, 0, 2_500_000),
        (PER_SECOND, "canceled", {"predict_time": Decimal("0.18")}, 0, 180_000),
        (PER_SECOND, "canceled", {}, 0, None),
        (PER_SECOND, "aborted", {"predict_time": 9}, 0, 0),
        (NO_PRICE, "succeeded", {"predict_time": 9}, 1, None),
        (NO_PRICE, "aborted", {}, 0, 0),
    ],
)
def test_the_cost_of_every_terminal_status(
    price: PriceSchedule,
    status: str,
    metrics: dict[str, Scalar],
    outputs: int,
    amount: int | None,
) -> None:
    """The table at the head of the module, row by row."""
    entry, _ = ledger.settle_with_tier(
        "a1", price, PredictionStatus(status), metrics, outputs=outputs
    )
    state = CostState.UNKNOWN if amount is None else CostState.SETTLED
    assert entry == LedgerEntry("a1", LedgerEntryKind.SETTLE, amount, state, price.as_of)


@pytest.mark.parametrize("status", sorted(set(PredictionStatus) - set(ENDS)))
def test_only_terminal_predictions_are_settled(status: PredictionStatus) -> None:
    """A status that is not terminal, or not known, proves nothing."""
    with pytest.raises(ValueError, match="not an end"):
        ledger.settle_with_tier("a1", PER_IMAGE, status, {"image_output_count": 1}, outputs=1)


def test_an_assumed_price_settles_as_assumed() -> None:
    """It settles as ASSUMED; what is free is free for sure."""
    assumed = dataclasses.replace(PER_SECOND, assumed=True)
    end, _ = ledger.settle_with_tier("a1", assumed, PredictionStatus.SUCCEEDED, {"predict_time": 1})
    assert (end.amount_nanos, end.state) == (1_000_000, CostState.ASSUMED)
    missing, _ = ledger.settle_with_tier("a1", assumed, PredictionStatus.SUCCEEDED, {})
    assert missing.state is CostState.UNKNOWN
    free, _ = ledger.settle_with_tier("a1", assumed, PredictionStatus.ABORTED, {})
    assert free.state is CostState.SETTLED


def test_a_reservation_is_the_plans_maximum_cost() -> None:
    """And says so where that is not known."""
    plan = plan_for("flux-schnell")
    assert ledger.reserve_entry(plan, "a1") == LedgerEntry(
        "a1", LedgerEntryKind.RESERVE, 3_000_000, CostState.ESTIMATED, plan.price.as_of
    )
    song = ModelRequest(Modality.AUDIO, "musicgen", {"prompt": "x"})
    assumed = ledger.reserve_entry(shipped_catalog().plan(song), "a3")
    assert (assumed.amount_nanos, assumed.state) == (840_000_000, CostState.ESTIMATED)
    unknown = ledger.reserve_entry(shipped_catalog(assumed=False).plan(song), "a2")
    assert (unknown.amount_nanos, unknown.state) == (None, CostState.UNKNOWN)


def test_a_success_without_an_output_matches_upstreams_list() -> None:
    """Neither the charge nor a later look at the list takes it for free."""
    end = Prediction("p", PredictionStatus.SUCCEEDED)
    charge = SettledCharge(
        1, "p", "a1", "g", 1, "t", "m", NOON, NOON, None, 0, prices.dump_price(PER_IMAGE)
    )
    assert compare_charges([charge], {"p": end}, NOON).matched == {"p"}
    measured = replace(end, metrics={"image_output_count": 1})
    (case,) = compare_charges([charge], {"p": measured}, NOON).differing
    assert case.upstream_nanos == 40_000_000


def test_a_release_and_a_loss() -> None:
    """Never taken: nothing. No record left: unknown."""
    assert ledger.release_entry("a1", PER_IMAGE).amount_nanos == 0
    assert ledger.release_entry("a1", NO_PRICE).state is CostState.SETTLED
    assert ledger.settle_unknown("a1", PER_IMAGE).state is CostState.UNKNOWN


AMOUNTS = st.none() | st.integers(0, 10**15)
ENTRIES = st.builds(
    lambda attempt, kind, amount, date: LedgerEntry(
        attempt,
        kind,
        amount,
        CostState.UNKNOWN if amount is None else CostState.ESTIMATED,
        date,
    ),
    st.sampled_from(["a1", "a2", "a3", "a4"]),
    st.sampled_from(LedgerEntryKind),
    AMOUNTS,
    st.sampled_from(["", "2026"]),
)


@given(st.lists(ENTRIES, max_size=8, unique_by=lambda entry: (entry.attempt_id, entry.kind)))
def test_an_unknown_cost_makes_the_total_unknown(entries: list[LedgerEntry]) -> None:
    """A total is known only where every attempt is."""
    total = ledger.total_cost(entries)
    counting = list(ledger.current_entry_by_attempt(entries).values())
    has_unknown = any(entry.amount_nanos is None for entry in counting)
    assert (total.state is CostState.UNKNOWN) == has_unknown
    known_sum = sum(entry.amount_nanos or 0 for entry in counting)
    assert total.amount_nanos == (None if has_unknown else known_sum)


@given(st.permutations([LedgerEntryKind.RESERVE, LedgerEntryKind.RELEASE, LedgerEntryKind.SETTLE]))
def test_a_late_settlement_overrides_a_release(kinds: list[LedgerEntryKind]) -> None:
    """In whatever order the lines are read."""
    amounts = {LedgerEntryKind.RESERVE: 9, LedgerEntryKind.RELEASE: 0, LedgerEntryKind.SETTLE: 7}
    entries = [LedgerEntry("a1", kind, amounts[kind], CostState.SETTLED, "2026") for kind in kinds]
    assert ledger.total_cost(entries).amount_nanos == 7
    assert ledger.total_cost(
        entry for entry in entries if entry.kind is not LedgerEntryKind.SETTLE
    ) == (ledger.CostTotal(0, CostState.SETTLED, "2026"))


def test_the_least_certain_state_names_the_total() -> None:
    """UNKNOWN before ESTIMATED before ASSUMED before SETTLED; nothing at all is settled at 0."""
    order = [CostState.SETTLED, CostState.ASSUMED, CostState.ESTIMATED, CostState.UNKNOWN]
    entries: list[LedgerEntry] = []
    assert ledger.total_cost(entries).state is CostState.SETTLED
    for number, state in enumerate(order):
        amount = None if state is CostState.UNKNOWN else 1
        entries.append(LedgerEntry(f"a{number}", LedgerEntryKind.SETTLE, amount, state, "2026"))
        assert ledger.total_cost(entries).state is state
