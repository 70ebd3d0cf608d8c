"""Retry policy of idempotent requests: reads, cancels and uploads, never a create.

It is the outermost policy, so that each retry is observed, paced and counted like the first
request. For creates: `create_retry_policy.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from mediagate_server.observability import metrics
from mediagate_server.upstream.policies.create_retry_policy import backoff
from mediagate_server.upstream.policies.policy import Endpoint, T, UpstreamRequest
from mediagate_server.upstream.port import (
    NoResponse,
    RefusalReason,
    RequestRefused,
    UnreadableResponse,
)

_READ_ATTEMPTS: dict[Endpoint, int] = {
    "get": 3,
    "list": 3,
    "model": 3,
    "secret": 2,
    "stream": 3,
    "cancel": 5,
    "upload": 3,
}
_CAUSES = {RefusalReason.UNREACHABLE: "unreachable", RefusalReason.THROTTLED: "throttled"}
_NO_ANSWER = "no_answer"
_READ_FIRST_DELAY, _READ_MAX_DELAY, _MAX_RETRY_AFTER = 0.2, 5.0, 30.0
_AWAITED = frozenset({"model", "upload"})
"""Endpoints that a caller waits for before its request is accepted."""
_THROTTLED_SECONDS = 60.0
"""Seconds for which those are retried after a 429, as the limit is per minute."""
_MIN_THROTTLED_DELAY = 1.0
"""Shortest delay between such retries, in seconds."""


class RetryPolicy:
    """Retries of idempotent requests: up to two for reads, uploads and opening a stream.

    A cancel has four, because the run costs money meanwhile. Where a connection failed slowly, a
    waiting caller gets the error, as a retry would fail as well. After a 429, what a caller waits
    for is retried for a minute.
    """

    def __init__(self, random: Random) -> None:
        self._policies = {endpoint: _policy(endpoint, random) for endpoint in _READ_ATTEMPTS}

    async def __call__(self, call: UpstreamRequest, call_next: Callable[[], Awaitable[T]]) -> T:
        """The first response, or the last failure once the retries are used up."""
        if call.endpoint == "create":
            return await call_next()
        started = asyncio.get_running_loop().time()
        try:
            # Nearly every first try succeeds, and tenacity takes 20 us.
            return await call_next()
        except (RequestRefused, NoResponse) as failure:
            is_away = isinstance(failure, RequestRefused) and failure.was_slow
            if _cause(failure) is None or (is_away and call.endpoint in _AWAITED):
                raise
            first = failure
        # A copy for each call, as tenacity keeps its state there.
        policy = self._policies[call.endpoint].copy(
            stop=partial(_is_used_up, call.endpoint, started)
        )
        async for attempt in policy:
            with attempt:
                if attempt.retry_state.attempt_number == 1:
                    raise first
                return await call_next()
        raise first  # Not reached: the policy ends in an answer or a failure.


def _policy(endpoint: Endpoint, random: Random) -> AsyncRetrying:
    """What is sent again, how long after, and how it is counted; until when, each call says."""
    retries = {
        cause: metrics.upstream_retries.labels(endpoint, cause)
        for cause in (*_CAUSES.values(), _NO_ANSWER)
    }

    def count(state: RetryCallState) -> None:
        retries[_cause(_failure(state)) or _NO_ANSWER].inc()

    return AsyncRetrying(
        retry=retry_if_exception(lambda failure: _cause(failure) is not None),
        wait=partial(_wait, endpoint, random),
        sleep=asyncio.sleep,
        before_sleep=count,
        reraise=True,
    )


def _is_used_up(endpoint: Endpoint, started: float, state: RetryCallState) -> bool:
    if _is_awaited_limit(endpoint, _failure(state)):
        return asyncio.get_running_loop().time() - started >= _THROTTLED_SECONDS
    return state.attempt_number >= _READ_ATTEMPTS[endpoint]


def _wait(endpoint: Endpoint, random: Random, state: RetryCallState) -> float:
    """Seconds until the next try: upstream's Retry-After, else an exponential backoff."""
    failure = _failure(state)
    if isinstance(failure, RequestRefused) and failure.retry_after is not None:
        seconds = min(failure.retry_after, _MAX_RETRY_AFTER)
    else:
        seconds = backoff(state.attempt_number, _READ_FIRST_DELAY, _READ_MAX_DELAY, random)
    is_limit = _is_awaited_limit(endpoint, failure)
    return max(seconds, _MIN_THROTTLED_DELAY) if is_limit else seconds


def _is_awaited_limit(endpoint: Endpoint, failure: BaseException | None) -> bool:
    is_limit = isinstance(failure, RequestRefused) and failure.refusal is RefusalReason.THROTTLED
    return is_limit and endpoint in _AWAITED


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _cause(failure: BaseException | None) -> str | None:
    """Why a retry may help, as a metric label; None where it cannot."""
    if isinstance(failure, UnreadableResponse):
        return None
    if isinstance(failure, NoResponse):
        return _NO_ANSWER
    if isinstance(failure, RequestRefused):
        return _CAUSES.get(failure.refusal)
    return None
