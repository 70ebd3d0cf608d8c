"""How long to wait before sending again: tenacity's growth, a random share of it, told waits."""

from random import Random

from tenacity import RetryCallState, wait_exponential
from tenacity.wait import wait_base

from mediagate_server.replicate.port import Refused


class Backoff(wait_base):
    """Seconds that double from `first` to `longest`, shortened at random by up to a half.

    Half is kept, so that a crowd that failed together neither comes back at once nor together.
    A `retry_after` that upstream told stands in place of that: exactly where `longest_told` is
    None, else up to that many seconds.
    """

    def __init__(
        self, first: float, longest: float, random: Random, *, longest_told: float | None = None
    ) -> None:
        self._growth = wait_exponential(multiplier=first, max=longest)
        self._random = random
        self._longest_told = longest_told

    def __call__(self, retry_state: RetryCallState) -> float:
        """The wait after the attempt that `retry_state` tells of."""
        outcome = retry_state.outcome
        failure = outcome.exception() if outcome is not None else None
        if isinstance(failure, Refused) and failure.retry_after is not None:
            told = failure.retry_after
            return told if self._longest_told is None else min(told, self._longest_told)
        return self._growth(retry_state) * self._random.uniform(0.5, 1.0)
