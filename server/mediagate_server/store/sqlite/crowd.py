"""How long a commit waits for company: not at all, unless everybody waits for the event loop.

Each commit has a price of its own: pages written whole, an fsync, threads that change places. A
loop that has more to do than it can takes up a commit's results late anyway; a few milliseconds
then bring many jobs into each commit, and all are served sooner (docs/decisions/0021). A loop that
waits for work takes them up in hundredths of a millisecond.
"""

from collections import deque
from statistics import median
from typing import Final

PAUSE: Final = 0.004
"""Seconds that a commit waits in a crowd."""
_LATE: Final = 0.000_1
_LATELY: Final = 9
_ENOUGH_TO_BEGIN, _ENOUGH_TO_GO_ON = 6, 4
_TRY_EVERY: Final = 16


class Crowd:
    """Heard on the event loop, asked by the writing thread.

    Where the loop is late, waiting is tried now and then, and kept up as long as it brings enough
    jobs together: a few callers in step would only wait for each other.
    """

    def __init__(self) -> None:
        self._lags: deque[float] = deque([0.0] * _LATELY, maxlen=_LATELY)
        self._commits = 0
        self._enough = _ENOUGH_TO_BEGIN
        self.pause = 0.0
        """Seconds for which the next commit waits for more jobs."""

    def heard(self, lag: float, jobs: int) -> None:
        """The loop took up the results of a commit of so many jobs, `lag` seconds late."""
        self._lags.append(lag)
        self._commits += 1
        # The median, so that one long turn of an idle loop is no crowd.
        late = median(self._lags) > _LATE
        worth = self.pause > 0 and jobs >= self._enough
        self._enough = _ENOUGH_TO_GO_ON if worth else _ENOUGH_TO_BEGIN
        tried = self._commits % _TRY_EVERY == 0
        self.pause = PAUSE if late and (worth or tried) else 0.0
