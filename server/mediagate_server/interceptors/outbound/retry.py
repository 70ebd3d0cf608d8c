"""Sends reads, cancels and uploads again, which is free and safe.

Never a create: see `create_policy.py`.

Outermost, so that every try is watched, paced and counted like the first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from mediagate_server import telemetry
from mediagate_server.interceptors.outbound.backoff import Backoff
from mediagate_server.interceptors.outbound.call import Call, Endpoint, T
from mediagate_server.replicate.port import (
    NoAnswer,
    Refusal,
    Refused,
    UnreadableAnswer,
    UpstreamError,
)

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

    def __init__(
        self, random: Random, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._wait = Backoff(_FIRST, _LONGEST, random, longest_told=_LONGEST_TOLD)
        self._sleep = sleep
        self._counts = {
            (endpoint, cause): telemetry.upstream_retries.labels(endpoint, cause)
            for endpoint in _TRIES
            for cause in (*_CAUSES.values(), _NO_ANSWER)
        }

    async def __call__(self, call: Call, proceed: Callable[[], Awaitable[T]]) -> T:
        """The first answer, or the last failure once the tries are used up."""
        if call.endpoint == "create":
            return await proceed()
        started = asyncio.get_running_loop().time()
        try:
            # Nearly every first try is the last, and needs no policy.
            return await proceed()
        except (Refused, NoAnswer) as failure:
            is_away = isinstance(failure, Refused) and failure.was_slow
            if _cause(failure) is None or (is_away and call.endpoint in _AWAITED):
                raise
            return await self._again(call, proceed, failure, started)

    async def _again(
        self,
        call: Call,
        proceed: Callable[[], Awaitable[T]],
        failure: UpstreamError,
        started: float,
    ) -> T:
        """All that follows a first try that ended in `failure`."""
        first: UpstreamError | None = failure

        async def attempt() -> T:
            nonlocal first
            if first is not None:
                failed, first = first, None
                raise failed
            return await proceed()

        def count(state: RetryCallState) -> None:
            failure = state.outcome.exception() if state.outcome is not None else None
            self._counts[call.endpoint, _cause(failure) or _NO_ANSWER].inc()

        def is_awaited_limit(state: RetryCallState) -> bool:
            failure = state.outcome.exception() if state.outcome is not None else None
            is_limit = isinstance(failure, Refused) and failure.refusal is Refusal.THROTTLED
            return is_limit and call.endpoint in _AWAITED

        def is_used_up(state: RetryCallState) -> bool:
            if is_awaited_limit(state):
                return asyncio.get_running_loop().time() - started >= _LONGEST_THROTTLED
            return state.attempt_number >= _TRIES[call.endpoint]

        def wait(state: RetryCallState) -> float:
            seconds = self._wait(state)
            return max(seconds, _SHORTEST_THROTTLED) if is_awaited_limit(state) else seconds

        # Made anew for each call: tenacity keeps a call's state in it.
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda failure: _cause(failure) is not None),
            stop=is_used_up,
            wait=wait,
            sleep=self._sleep,
            before_sleep=count,
            reraise=True,
        )
        answer: T = await retrying(attempt)
        return answer


def _cause(failure: BaseException | None) -> str | None:
    """Why sending again may help; None where it cannot."""
    if isinstance(failure, UnreadableAnswer):
        return None
    if isinstance(failure, NoAnswer):
        return _NO_ANSWER
    if isinstance(failure, Refused):
        return _CAUSES.get(failure.refusal)
    return None
