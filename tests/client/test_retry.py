"""When a call is sent again."""

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_client.error_mapping import from_status
from mediagate_client.errors import DeadlineExceeded, MediagateError
from mediagate_client.retry import Deadline, Retries, RetryPolicy, may_retry

from .rpc_statuses import status

C = grpc.StatusCode
DOWN = from_status(status(C.UNAVAILABLE, "DRAINING"))


class FakeMonotonicClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def retries(
    policy: RetryPolicy, *, seconds: float | None = None, draw: float = 0.0
) -> tuple[Retries, FakeMonotonicClock]:
    clock = FakeMonotonicClock()
    return Retries(policy, Deadline.after(seconds, clock), lambda: draw), clock


def test_the_pauses_grow_to_their_bound() -> None:
    """Without jitter's luck the pauses double until they are at the longest."""
    tries, _ = retries(
        RetryPolicy(attempts_while_unreachable=6, initial_delay=1, max_delay=5), draw=1.0
    )
    assert [tries.delay(DOWN) for _ in range(6)] == [1.0, 2.0, 4.0, 5.0, 5.0, None]


@given(st.floats(0, 1), st.integers(1, 30))
def test_a_pause_is_between_half_and_the_whole(draw: float, attempt: int) -> None:
    """Jitter shortens a pause by half at most, so that a crowd spreads and still backs off."""
    policy = RetryPolicy(attempts_while_unreachable=100)
    tries, _ = retries(policy, draw=draw)
    delays = [tries.delay(DOWN) for _ in range(attempt)]
    exponential = min(policy.initial_delay * policy.multiplier ** (attempt - 1), policy.max_delay)
    assert delays[-1] is not None
    assert exponential / 2 <= delays[-1] <= exponential


@given(st.floats(0, 1), st.floats(0, 60))
def test_retry_info_is_the_minimum_delay(draw: float, retry_after: float) -> None:
    """RetryInfo is a floor."""
    tries, _ = retries(RetryPolicy(), draw=draw)
    failure = from_status(status(C.RESOURCE_EXHAUSTED, "RATE_LIMITED", retry_after=retry_after))
    delay = tries.delay(failure)
    assert delay is not None
    assert failure.retry_after is not None
    assert delay >= failure.retry_after


def test_too_long_delays_are_not_waited_for() -> None:
    """A caller rather hears of a pause of an hour than sits through it."""
    tries, _ = retries(RetryPolicy(longest_retry_after=60))
    assert tries.delay(from_status(status(C.UNAVAILABLE, "DRAINING", retry_after=61))) is None


def test_no_attempt_begins_after_the_deadline() -> None:
    """A pause that would end after the deadline is not begun."""
    tries, clock = retries(RetryPolicy(initial_delay=1), seconds=10, draw=1.0)
    clock.now += 8.9
    assert tries.delay(DOWN) == 1.0
    clock.now += 0.2
    assert tries.delay(DOWN) is None


def test_progress_resets_the_attempts() -> None:
    """A stream that goes on after each of many cuts is never given up."""
    tries, _ = retries(RetryPolicy(2, 2, 2), draw=1.0)
    for _ in range(20):
        assert tries.delay(DOWN) == 0.2
        tries.reset()
    assert tries.delay(DOWN) is not None
    assert tries.delay(DOWN) is None


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (DOWN, True),
        (from_status(status(C.UNAVAILABLE, message="Socket closed")), True),
        (from_status(status(C.UNAVAILABLE, "UPSTREAM_ACCOUNT", retry_after=60)), False),
        (from_status(status(C.CANCELLED, message="CANCELLED")), True),
        (from_status(status(C.CANCELLED, "CANCELLED")), False),
        (from_status(status(C.RESOURCE_EXHAUSTED, "QUEUE_FULL", retry_after=1)), True),
        (from_status(status(C.RESOURCE_EXHAUSTED, "QUEUE_FULL")), False),
        (from_status(status(C.RESOURCE_EXHAUSTED, "BUDGET_EXCEEDED", retry_after=1)), False),
        (from_status(status(C.RESOURCE_EXHAUSTED, message="too large")), False),
        (from_status(status(C.INVALID_ARGUMENT, "INVALID_REQUEST")), False),
        (from_status(status(C.FAILED_PRECONDITION, "RUN_FAILED")), False),
        (from_status(status(C.DATA_LOSS, "STREAM_INTERRUPTED")), False),
        (from_status(status(C.DEADLINE_EXCEEDED)), False),
    ],
)
def test_only_transient_failures_are_retried(failure: MediagateError, expected: bool) -> None:
    """Unavailable, cut, or told when to come back; nothing else."""
    assert may_retry(failure) is expected


def test_an_expired_deadline_is_an_error() -> None:
    """GRPC would take a negative timeout for a call that has none left."""
    clock = FakeMonotonicClock()
    deadline = Deadline.after(5, clock)
    assert deadline.remaining() == 5
    clock.now += 5
    with pytest.raises(DeadlineExceeded):
        deadline.remaining()
    assert Deadline.after(None, clock).remaining() is None


@pytest.mark.parametrize(
    "away",
    [
        DOWN,
        from_status(status(C.UNAVAILABLE, message="failed to connect to all addresses")),
        from_status(status(C.CANCELLED, message="CANCELLED")),
    ],
)
def test_an_unreachable_server_is_waited_for_during_a_restart(away: MediagateError) -> None:
    """By the least luck of jitter longer than the 10 s that a drain and a start may take."""
    tries, _ = retries(RetryPolicy(), draw=0.0)
    assert sum(_delays(tries, away)) > 10


def test_a_known_server_is_waited_for_during_a_restart() -> None:
    """Long enough for a drain and a start; not so for a server that cannot now."""
    tries, _ = retries(RetryPolicy(), draw=0.0)
    lost = from_status(status(C.UNAVAILABLE, "INTERNAL"))
    assert len(_delays(tries, lost)) == 4
    tries, _ = retries(RetryPolicy(), draw=0.0)
    tries.extend()
    assert sum(_delays(tries, lost)) > 10


def _delays(tries: Retries, failure: MediagateError) -> list[float]:
    """All that it would wait."""
    return list(iter(lambda: tries.delay(failure), None))
