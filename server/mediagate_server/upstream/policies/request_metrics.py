"""Request metrics: counts and durations. The innermost policy, so waiting is not measured."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import product
from typing import Final, get_args

from mediagate_server.observability import metrics
from mediagate_server.upstream.policies.policy import Endpoint, T, UpstreamRequest
from mediagate_server.upstream.port import NoResponse, RefusalReason, RequestRefused

_OK: Final = "ok"
_NO_ANSWER: Final = "no_answer"
_CANCELLED: Final = "cancelled"
_BUG: Final = "bug"
_REFUSED: Final = {
    refusal: refusal.value if refusal is not RefusalReason.OTHER else "refused"
    for refusal in RefusalReason
}
OUTCOMES: Final = (_OK, *_REFUSED.values(), _NO_ANSWER, _CANCELLED, _BUG)


class RequestMetrics:
    """Counts requests by endpoint and outcome, and observes durations by endpoint."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        # Looking a child up by its labels costs more than counting; there are few.
        self._counts = {
            (endpoint, outcome): metrics.upstream_requests.labels(endpoint, outcome)
            for endpoint, outcome in product(get_args(Endpoint), OUTCOMES)
        }
        self._seconds = {
            endpoint: metrics.upstream_seconds.labels(endpoint) for endpoint in get_args(Endpoint)
        }

    async def __call__(self, call: UpstreamRequest, call_next: Callable[[], Awaitable[T]]) -> T:
        """Observe the request, unchanged."""
        started = self._clock()
        outcome = _BUG
        try:
            answer = await call_next()
            outcome = _OK
            return answer
        except RequestRefused as refused:
            outcome = _REFUSED[refused.refusal]
            raise
        except NoResponse:
            outcome = _NO_ANSWER
            raise
        except asyncio.CancelledError:
            outcome = _CANCELLED
            raise
        finally:
            self._counts[call.endpoint, outcome].inc()
            self._seconds[call.endpoint].observe(self._clock() - started)
