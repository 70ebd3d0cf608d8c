"""Counts every try and how long it took: the innermost advice, so waiting is not in it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import product
from typing import Final, get_args

from mediagate_server import telemetry
from mediagate_server.interceptors.outbound.call import Call, Endpoint, T
from mediagate_server.replicate.port import NoAnswer, Refusal, Refused

_OK: Final = "ok"
_NO_ANSWER: Final = "no_answer"
_CANCELLED: Final = "cancelled"
_BUG: Final = "bug"
_REFUSED: Final = {
    refusal: refusal.value if refusal is not Refusal.OTHER else "refused" for refusal in Refusal
}
OUTCOMES: Final = (_OK, *_REFUSED.values(), _NO_ANSWER, _CANCELLED, _BUG)


class Observe:
    """One count by endpoint and outcome, one duration by endpoint, for each request sent."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        # Looking a child up by its labels costs more than counting; there are few.
        self._counts = {
            (endpoint, outcome): telemetry.upstream_requests.labels(endpoint, outcome)
            for endpoint, outcome in product(get_args(Endpoint), OUTCOMES)
        }
        self._seconds = {
            endpoint: telemetry.upstream_seconds.labels(endpoint) for endpoint in get_args(Endpoint)
        }

    async def __call__(self, call: Call, proceed: Callable[[], Awaitable[T]]) -> T:
        """Passes everything through as it is."""
        started = self._clock()
        outcome = _BUG
        try:
            answer = await proceed()
            outcome = _OK
            return answer
        except Refused as refused:
            outcome = _REFUSED[refused.refusal]
            raise
        except NoAnswer:
            outcome = _NO_ANSWER
            raise
        except asyncio.CancelledError:
            outcome = _CANCELLED
            raise
        finally:
            self._counts[call.endpoint, outcome].inc()
            self._seconds[call.endpoint].observe(self._clock() - started)
