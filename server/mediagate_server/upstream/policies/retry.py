"""Sends reads, cancels and uploads again, which is free and safe.

Never a create: see `retry.py`.

Outermost, so that every try is watched, paced and counted like the first.

Exponential backoff with jitter: how long to wait before sending again.

When a refused create may be attempted anew, and how long after. Sends nothing itself.

Each new try of a create is a new attempt with its own record, opened before anything is sent, so
the loop is where records are made: in `generations`. Only its timing is decided here. A create
that got no answer is not refused but in doubt, and never comes here. One that upstream's limit
refused waits with the whole account, for as long as its call may: see `rate_limiter.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from mediagate_server.observability import metrics
from mediagate_server.upstream.policies.policy import Endpoint, T, UpstreamRequest
from mediagate_server.upstream.port import (
    NoResponse,
    RefusalReason,
    RequestRefused,
    UnreadableResponse,
)


def backoff(attempt: int, first: float, longest: float, random: Random) -> float:
    """Seconds after this attempt, from 1: doubled from `first` to `longest`, up to half off.

    Half is kept, so that a crowd that failed together neither comes back at once nor together.
    """
    return float(min(first * 2 ** (attempt - 1), longest)) * random.uniform(0.5, 1.0)


_CREATE_ATTEMPTS, _CREATE_FIRST_DELAY, _CREATE_MAX_DELAY = 3, 0.4, 2.0


class CreateRetryPolicy:
    """UNREACHABLE: 3 attempts, 0.2 to 2 s apart, where that was found out at once: whoever waits
    is told within five seconds. Anything else would be refused again.
    """

    def __init__(self, random: Random) -> None:
        self._random = random

    def delay_before_retry(self, refused: RequestRefused, ordinal: int) -> float | None:
        """Seconds until a new attempt may be opened; None where there shall be none.

        `ordinal` is that of the attempt that was refused, from 1.
        """
        if (
            refused.refusal is not RefusalReason.UNREACHABLE
            or refused.was_slow
            or ordinal >= _CREATE_ATTEMPTS
        ):
            return None
        return backoff(ordinal, _CREATE_FIRST_DELAY, _CREATE_MAX_DELAY, self._random)


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
_READ_FIRST_DELAY, _READ_MAX_DELAY, _LONGEST_TOLD = 0.2, 5.0, 30.0
_AWAITED = frozenset({"model", "upload"})
"""What a caller waits for, to whom nothing is promised yet."""
_LONGEST_THROTTLED = 60.0
"""Seconds that those are tried for where upstream's limit is met: it is one by the minute."""
_SHORTEST_THROTTLED = 1.0
"""Seconds between such tries, however short a wait is told."""


class RetryPolicy:
    """At most two more tries for reads, uploads and opening a stream, four more for a cancel.

    A cancel gets more because every second it is not heard is paid for. Where no connection came
    about for long, a caller who waits is told so: it would not come about the next time either.
    Where upstream's limit is met, what a caller waits for is tried for a minute.
    """

    def __init__(self, random: Random) -> None:
        self._policies = {endpoint: _policy(endpoint, random) for endpoint in _READ_ATTEMPTS}

    async def __call__(self, call: UpstreamRequest, proceed: Callable[[], Awaitable[T]]) -> T:
        """The first answer, or the last failure once the tries are used up."""
        if call.endpoint == "create":
            return await proceed()
        started = asyncio.get_running_loop().time()
        try:
            # Nearly every first try is the last, and a policy takes 20 us.
            return await proceed()
        except (RequestRefused, NoResponse) as failure:
            is_away = isinstance(failure, RequestRefused) and failure.was_slow
            if _cause(failure) is None or (is_away and call.endpoint in _AWAITED):
                raise
            first = failure
        # A copy for each call: tenacity keeps a call's state in it.
        policy = self._policies[call.endpoint].copy(
            stop=partial(_is_used_up, call.endpoint, started)
        )
        async for attempt in policy:
            with attempt:
                if attempt.retry_state.attempt_number == 1:
                    raise first
                return await proceed()
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
        return asyncio.get_running_loop().time() - started >= _LONGEST_THROTTLED
    return state.attempt_number >= _READ_ATTEMPTS[endpoint]


def _wait(endpoint: Endpoint, random: Random, state: RetryCallState) -> float:
    """Seconds until the next try: those that upstream told, else an exponential backoff."""
    failure = _failure(state)
    if isinstance(failure, RequestRefused) and failure.retry_after is not None:
        seconds = min(failure.retry_after, _LONGEST_TOLD)
    else:
        seconds = backoff(state.attempt_number, _READ_FIRST_DELAY, _READ_MAX_DELAY, random)
    is_limit = _is_awaited_limit(endpoint, failure)
    return max(seconds, _SHORTEST_THROTTLED) if is_limit else seconds


def _is_awaited_limit(endpoint: Endpoint, failure: BaseException | None) -> bool:
    is_limit = isinstance(failure, RequestRefused) and failure.refusal is RefusalReason.THROTTLED
    return is_limit and endpoint in _AWAITED


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _cause(failure: BaseException | None) -> str | None:
    """Why sending again may help; None where it cannot."""
    if isinstance(failure, UnreadableResponse):
        return None
    if isinstance(failure, NoResponse):
        return _NO_ANSWER
    if isinstance(failure, RequestRefused):
        return _CAUSES.get(failure.refusal)
    return None
