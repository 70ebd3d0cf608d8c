"""Sends reads, cancels and uploads again, which is free and safe.

Never a create: see `create_policy.py`.

Outermost, so that every try is watched, paced and counted like the first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from mediagate_server import telemetry
from mediagate_server.interceptors.outbound.backoff import backoff
from mediagate_server.interceptors.outbound.call import Call, Endpoint, T
from mediagate_server.replicate.port import NoAnswer, Refusal, Refused, UnreadableAnswer

_TRIES: dict[Endpoint, int] = {
    "get": 3,
    "list": 3,
    "model": 3,
    "secret": 2,
    "stream": 3,
    "cancel": 5,
    "upload": 3,
}
_CAUSES = {Refusal.UNREACHABLE: "unreachable", Refusal.THROTTLED: "throttled"}
_NO_ANSWER = "no_answer"
_FIRST, _LONGEST, _LONGEST_TOLD = 0.2, 5.0, 30.0
_AWAITED = frozenset({"model", "upload"})
"""What a caller waits for, to whom nothing is promised yet."""
_LONGEST_THROTTLED = 60.0
"""Seconds that those are tried for where upstream's limit is met: it is one by the minute."""
_SHORTEST_THROTTLED = 1.0
"""Seconds between such tries, however short a wait is told."""


class Retry:
    """At most two more tries for reads, uploads and opening a stream, four more for a cancel.

    A cancel gets more because every second it is not heard is paid for. Where no connection came
    about for long, a caller who waits is told so: it would not come about the next time either.
    Where upstream's limit is met, what a caller waits for is tried for a minute.
    """

    def __init__(self, random: Random) -> None:
        self._policies = {endpoint: _policy(endpoint, random) for endpoint in _TRIES}

    async def __call__(self, call: Call, proceed: Callable[[], Awaitable[T]]) -> T:
        """The first answer, or the last failure once the tries are used up."""
        if call.endpoint == "create":
            return await proceed()
        started = asyncio.get_running_loop().time()
        try:
            # Nearly every first try is the last, and a policy takes 20 us.
            return await proceed()
        except (Refused, NoAnswer) as failure:
            is_away = isinstance(failure, Refused) and failure.was_slow
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
        cause: telemetry.upstream_retries.labels(endpoint, cause)
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
    return state.attempt_number >= _TRIES[endpoint]


def _wait(endpoint: Endpoint, random: Random, state: RetryCallState) -> float:
    """Seconds until the next try: those that upstream told, else an exponential backoff."""
    failure = _failure(state)
    if isinstance(failure, Refused) and failure.retry_after is not None:
        seconds = min(failure.retry_after, _LONGEST_TOLD)
    else:
        seconds = backoff(state.attempt_number, _FIRST, _LONGEST, random)
    is_limit = _is_awaited_limit(endpoint, failure)
    return max(seconds, _SHORTEST_THROTTLED) if is_limit else seconds


def _is_awaited_limit(endpoint: Endpoint, failure: BaseException | None) -> bool:
    is_limit = isinstance(failure, Refused) and failure.refusal is Refusal.THROTTLED
    return is_limit and endpoint in _AWAITED


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _cause(failure: BaseException | None) -> str | None:
    """Why sending again may help; None where it cannot."""
    if isinstance(failure, UnreadableAnswer):
        return None
    if isinstance(failure, NoAnswer):
        return _NO_ANSWER
    if isinstance(failure, Refused):
        return _CAUSES.get(failure.refusal)
    return None
