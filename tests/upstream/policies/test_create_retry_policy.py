"""When a refused create may be attempted anew: how often, how long after, and never otherwise."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.upstream.policies.create_retry_policy import CreateRetryPolicy
from mediagate_server.upstream.port import RefusalReason, RequestRefused

UNREACHABLE = RequestRefused(RefusalReason.UNREACHABLE)
THROTTLED = RequestRefused(RefusalReason.THROTTLED, http_status=429)


@given(st.integers(0, 2**32))
def test_unreachable_gets_three_attempts(seed: int) -> None:
    """Two more, 0.2 to 2 seconds later, growing."""
    policy = CreateRetryPolicy(Random(seed))
    first, second, third = (policy.delay_before_retry(UNREACHABLE, n) for n in (1, 2, 3))
    assert first is not None
    assert second is not None
    assert 0.2 <= first <= 0.4 <= second <= 0.8
    assert third is None


def test_a_slow_connection_failure_is_not_retried() -> None:
    """Whoever waits is told so: the next one would take as long."""
    slow = RequestRefused(RefusalReason.UNREACHABLE, was_slow=True)
    assert CreateRetryPolicy(Random(1)).delay_before_retry(slow, 1) is None


def test_throttling_is_not_a_failed_try() -> None:
    """It is no try of this model's that failed: rate_limiter.py has how long all wait."""
    assert CreateRetryPolicy(Random(1)).delay_before_retry(THROTTLED, 1) is None


@pytest.mark.parametrize(
    "refusal",
    [RefusalReason.ACCOUNT, RefusalReason.NOT_FOUND, RefusalReason.INPUT, RefusalReason.OTHER],
)
def test_definite_refusals_are_not_retried(refusal: RefusalReason) -> None:
    """Neither money nor a model appears by waiting."""
    assert CreateRetryPolicy(Random(1)).delay_before_retry(RequestRefused(refusal), 1) is None


def test_delays_are_reproducible_by_seed() -> None:
    """Nothing random but what was handed in."""
    policy, same_policy = CreateRetryPolicy(Random(9)), CreateRetryPolicy(Random(9))
    for ordinal in range(1, 4):
        assert policy.delay_before_retry(UNREACHABLE, ordinal) == same_policy.delay_before_retry(
            UNREACHABLE, ordinal
        )
