"""A connection that does not come about for seconds: who waits for the answer is told at once."""

import asyncio
from random import Random
from typing import Any

import pytest

from mediagate_server.upstream.policies.idempotent_retry import RetryPolicy
from mediagate_server.upstream.policies.policy import UpstreamRequest
from mediagate_server.upstream.port import RefusalReason, RequestRefused

from .scripted_upstream import DOWN, NO_RESPONSE, RunOnVirtualLoop

SLOW = RequestRefused(RefusalReason.UNREACHABLE, was_slow=True)


@pytest.mark.parametrize(
    ("endpoint", "failure", "tries"),
    [
        ("model", SLOW, 1),
        ("upload", SLOW, 1),
        ("model", DOWN, 3),
        ("model", NO_RESPONSE, 3),
        ("get", RequestRefused(RefusalReason.THROTTLED), 3),
        ("get", SLOW, 3),
        ("cancel", SLOW, 5),
    ],
)
def test_slow_connects_are_not_retried_in_the_foreground(
    run_on_virtual_loop: RunOnVirtualLoop, endpoint: Any, failure: Exception, tries: int
) -> None:
    """What is done behind their backs is: runs that are paid have to be followed.

    How long all of it took says nothing: a try may have waited for its turn before it was sent.
    """
    attempts: list[float] = []

    async def call_next() -> None:
        attempts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(3.0)
        raise failure

    async def main() -> None:
        with pytest.raises(type(failure)):
            await RetryPolicy(Random(1))(UpstreamRequest(endpoint), call_next)

    run_on_virtual_loop(main())
    assert len(attempts) == tries


@pytest.mark.parametrize(("retry_after", "tries"), [(5.0, 13), (1.0, 61), (0.0, 61)])
@pytest.mark.parametrize("endpoint", ["model", "upload"])
def test_rate_limits_are_waited_for(
    run_on_virtual_loop: RunOnVirtualLoop, endpoint: Any, retry_after: float, tries: int
) -> None:
    """For a minute, which is what limits are made of, and never faster than is told."""
    attempts: list[float] = []

    async def call_next() -> None:
        attempts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.05)
        raise RequestRefused(RefusalReason.THROTTLED, retry_after=retry_after)

    async def main() -> None:
        with pytest.raises(RequestRefused):
            await RetryPolicy(Random(1))(UpstreamRequest(endpoint), call_next)

    run_on_virtual_loop(main())
    assert 60 <= attempts[-1] + 0.05 - attempts[0] < 60 + max(retry_after, 1) + 0.1
    assert len(attempts) <= tries
