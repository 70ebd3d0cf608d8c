"""Log and metric of values in upstream's answers that nothing can hold; never the values.

The log has at most one line a second, however many answers there are: an upstream that is wrong
once is wrong all the time.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from mediagate_server import telemetry

_PAUSE_SECONDS: Final = 1.0

_log = structlog.get_logger()


class DiscardedValueLog:
    """Tells of values that were left out. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._silent_until = float("-inf")
        self._suppressed = 0

    def report(self, prediction_id: str, fields: Iterable[str]) -> None:
        """Upstream told nothing usable in these fields of a prediction; the names are our own."""
        named = sorted(set(fields))
        for field in named:
            telemetry.discarded_values.labels(field).inc()
        now = self._clock()
        if now < self._silent_until:
            self._suppressed += 1
            return
        _log.warning(
            "upstream_value_discarded",
            prediction=prediction_id,
            fields=named,
            suppressed=self._suppressed,
        )
        self._silent_until, self._suppressed = now + _PAUSE_SECONDS, 0


LOG: Final = DiscardedValueLog()
"""That of this process."""
