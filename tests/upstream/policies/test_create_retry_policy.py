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


def test_a_connection_that_took_long_is_not_tried_again() -> None:
    """Whoever waits is told so: the next one would take as long."""
    slow = RequestRefused(RefusalReason.UNREACHABLE, was_slow=True)
    assert CreateRetryPolicy(Random(1)).delay_before_retry(slow, 1) is None


def test_throttled_waits_with_its_account() -> None:
    """It is no try of this model's that failed: rate_limiter.py has how long all wait."""
    assert CreateRetryPolicy(Random(1)).delay_before_retry(THROTTLED, 1) is None


@pytest.mark.parametrize(
    "refusal",
    [RefusalReason.ACCOUNT, RefusalReason.NOT_FOUND, RefusalReason.INPUT, RefusalReason.OTHER],
)
def test_what_would_be_refused_again_is_not_tried(refusal: RefusalReason) -> None:
    """Neither money nor a model appears by waiting."""
    assert CreateRetryPolicy(Random(1)).delay_before_retry(RequestRefused(refusal), 1) is None


def test_the_same_seed_waits_the_same() -> None:
    """Nothing random but what was handed in."""
    policy, same_policy = CreateRetryPolicy(Random(9)), CreateRetryPolicy(Random(9))
    for ordinal in range(1, 4):
        assert policy.delay_before_retry(UNREACHABLE, ordinal) == same_policy.delay_before_retry(
            UNREACHABLE, ordinal
        )
