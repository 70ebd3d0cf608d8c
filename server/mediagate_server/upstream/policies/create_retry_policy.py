"""Retry policy of creates: when a refused create may be attempted again.

It only decides. Each try is a new attempt with its own record, committed before it is sent, so the
loop is in `generations`. A create without an answer is not refused but unconfirmed, and never
retried here. A 429 is retried by `generations/execution/step.py` (`_on_refused`), after a
wait of the whole account (`throttle_backoff.py`).
"""

from random import Random

from mediagate_server.upstream.port import RefusalReason, RequestRefused


def backoff(attempt: int, first: float, longest: float, random: Random) -> float:
    """Exponential backoff with jitter: seconds after this attempt (from 1), up to `longest`.

    At least half of it, so that callers which failed together neither retry at once nor together.
    """
    return float(min(first * 2 ** (attempt - 1), longest)) * random.uniform(0.5, 1.0)


_CREATE_ATTEMPTS, _CREATE_FIRST_DELAY, _CREATE_MAX_DELAY = 3, 0.4, 2.0


class CreateRetryPolicy:
    """Retry policy of refused creates: 3 attempts, 0.2 to 2 s apart, where upstream is UNREACHABLE.

    Only where the failure was fast, as callers must know within five seconds. Any other refusal
    would be repeated.
    """

    def __init__(self, random: Random) -> None:
        self._random = random

    def delay_before_retry(self, refused: RequestRefused, ordinal: int) -> float | None:
        """Seconds until a new attempt may be opened; None: no retry.

        `ordinal` is that of the refused attempt, from 1.
        """
        if (
            refused.refusal is not RefusalReason.UNREACHABLE
            or refused.was_slow
            or ordinal >= _CREATE_ATTEMPTS
        ):
            return None
        return backoff(ordinal, _CREATE_FIRST_DELAY, _CREATE_MAX_DELAY, self._random)
