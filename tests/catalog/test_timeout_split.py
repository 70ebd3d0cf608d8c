"""How a timeout is split over a chain: each later model that could still finish gets its time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.catalog.models.model import OutputKind, OutputShape
from mediagate_server.catalog.planning.fallback import model_time_share
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.pricing.prices import Estimate, PriceSchedule
from mediagate_server.catalog.request import Modality

SHORTEST = 5.0


def plan(slug: str, usual: int, longest: int) -> Plan:
    """A run that takes so long."""
    return Plan(
        modality=Modality.IMAGE,
        requested_model=slug,
        slug=slug,
        target=slug,
        input={},
        report=(),
        seed=None,
        streams=False,
        output=OutputShape(OutputKind.MEDIA),
        output_count=1,
        price=PriceSchedule((), "2026", "a test"),
        estimate=Estimate(0, 0, 0),
        max_run=longest,
        usual_run=usual,
    )


def chain(*times: tuple[int, int]) -> tuple[Plan, ...]:
    """Models a, b, c … with their usual and longest runs."""
    return tuple(plan("abcdef"[n], *run_times) for n, run_times in enumerate(times))


def share(plans: tuple[Plan, ...], model: str, seconds: float) -> float | None:
    return model_time_share(plans, model, seconds, shortest=SHORTEST)


@pytest.mark.parametrize("seconds", [5.0, 60.0, 86_400.0])
def test_a_single_model_gets_the_whole_timeout(seconds: float) -> None:
    """Nobody could take over: also at the end of a chain, and for a model that is not in it."""
    assert share(chain((10, 60)), "a", seconds) is None
    assert share(chain((10, 60), (10, 60)), "b", seconds) is None
    assert share(chain((10, 60)), "elsewhere", seconds) is None
    assert share((), "a", seconds) is None


def test_no_time_is_reserved_for_a_model_that_cannot_finish() -> None:
    """Cutting the first would cost money and help nobody."""
    assert share(chain((10, 60), (30, 60)), "a", 35) is None
    # The one behind it could: it is kept time for.
    assert share(chain((10, 60), (90, 120), (5, 60)), "a", 40) == pytest.approx(10 + 23 * 50 / 105)


def test_remaining_time_is_shared_by_the_longest_runs() -> None:
    """With time for all of them nobody is cut before its longest run."""
    plans = chain((3, 60), (30, 120), (12, 120))
    first = share(plans, "a", 600)
    assert first
    assert first == pytest.approx(600 * 60 / (60 + 122 + 122))
    assert first >= 60


def test_measured_durations_override_the_catalog() -> None:
    """By the catalog no other would be over in time; here they are."""
    plans = chain((15, 600), (20, 600))
    assert share(plans, "a", 30) is None
    own = {"a": 3.0, "b": 4.0}
    seen = model_time_share(
        plans, "a", 30, shortest=SHORTEST, duration_of=lambda planned: own[planned.slug]
    )
    assert seen
    assert 5 < seen < 23


times = st.lists(
    st.tuples(st.integers(1, 1_800), st.integers(5, 1_800)).map(lambda two: (min(two), max(two))),
    min_size=1,
    max_size=6,
)


@given(times, st.floats(5, 90_000))
def test_every_model_that_fits_keeps_its_usual_run(
    runs: list[tuple[int, int]], seconds: float
) -> None:
    """Every model hangs: each has at least its usual run, the whole is within the timeout."""
    plans, left, tried = chain(*runs), seconds, 0
    could, needed = 0, 0.0
    for number, (usual, _) in enumerate(runs):
        more = max(usual, SHORTEST) + (2 if number else 0)
        if number == 0 or needed + more <= seconds:
            could, needed = could + 1, needed + more
    for candidate in plans:
        if tried and candidate.usual_run > left:
            continue
        tried += 1
        given_time = share(plans, candidate.slug, left)
        if given_time is None:
            break
        assert given_time >= max(candidate.usual_run, SHORTEST) - 1e-6
        assert given_time < left
        left -= given_time + 2
    assert left >= -1e-6
    assert tried >= could
