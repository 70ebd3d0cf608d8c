"""When a refused create may be attempted anew, and how long after. Sends nothing itself.

Each new try of a create is a new attempt with its own record, opened before anything is sent, so
the loop is where records are made: in `generations`. Only its timing is decided here. A create
that got no answer is not refused but in doubt, and never comes here. One that upstream's limit
refused waits with the whole account, for as long as its call may: see `throttle.py`.
"""

from random import Random

from mediagate_server.interceptors.outbound.backoff import backoff
from mediagate_server.replicate.port import Refusal, Refused

_TRIES, _FIRST, _LONGEST = 3, 0.4, 2.0


class CreatePolicy:
    """UNREACHABLE: 3 attempts, 0.2 to 2 s apart, where that was found out at once: whoever waits
    is told within five seconds. Anything else would be refused again.
    """

    def __init__(self, random: Random) -> None:
        self._random = random

    def delay_before_retry(self, refused: Refused, ordinal: int) -> float | None:
        """Seconds until a new attempt may be opened; None where there shall be none.

        `ordinal` is that of the attempt that was refused, from 1.
        """
        if refused.refusal is not Refusal.UNREACHABLE or refused.was_slow or ordinal >= _TRIES:
            return None
        return backoff(ordinal, _FIRST, _LONGEST, self._random)
