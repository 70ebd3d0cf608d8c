"""Expected ends by how long a model's last runs took."""

from datetime import UTC, datetime, timedelta

from mediagate_server.generations.run_durations import MAX_MODELS, MAX_RUNS, MIN_RUNS, RunDurations
from mediagate_server.store.records import RunEstimate

BEGUN = datetime(2026, 11, 30, tzinfo=UTC)


def after(median: float, p90: float) -> RunEstimate:
    """An estimate of a run that has begun then."""
    return RunEstimate(BEGUN + timedelta(seconds=median), BEGUN + timedelta(seconds=p90))


def test_without_runs_there_is_no_duration() -> None:
    """Neither of a model that nobody ran, nor of times that cannot be."""
    durations = RunDurations()
    durations.add("a", 5)
    durations.add("b", -1)
    durations.add("b", float("inf"))
    durations.add("b", float("nan"))
    assert durations.estimate("b", BEGUN) is None
    assert durations.estimate("a", BEGUN) == after(5, 5)


def test_median_and_ninetieth_percentile() -> None:
    """In whatever order they came."""
    durations = RunDurations()
    for seconds in (7, 1, 3, 10, 5, 2, 8, 4, 9, 6):
        durations.add("a", seconds)
    assert durations.estimate("a", BEGUN) == after(5, 9)


def test_only_the_last_runs_and_models_are_kept() -> None:
    """A model that became faster is known to be so; memory is bounded."""
    durations = RunDurations()
    for seconds in [100.0] * MAX_RUNS + [1.0] * MAX_RUNS:
        durations.add("a", seconds)
    assert durations.estimate("a", BEGUN) == after(1, 1)
    for number in range(MAX_MODELS):
        durations.add(f"m{number}", 1)
    assert durations.estimate("a", BEGUN) is None
    assert len(durations._models) == MAX_MODELS


def test_stored_runs_precede_new_ones() -> None:
    """They are read while the first run may end already."""
    durations = RunDurations()
    durations.add("a", 1)
    durations.load((("a", 50.0),) * MAX_RUNS)
    for _ in range(MAX_RUNS - 1):
        durations.add("a", 1)
    assert durations.estimate("a", BEGUN) == after(1, 1)


def test_percentiles_require_enough_runs() -> None:
    """Nine in ten took no longer; of seven nothing is said."""
    durations = RunDurations()
    for seconds in range(1, MIN_RUNS):
        durations.add("a", seconds)
    assert durations.usual("a") is None
    assert durations.usual("b") is None
    for seconds in (8, 9, 100):
        durations.add("a", seconds)
    assert durations.usual("a") == 9
