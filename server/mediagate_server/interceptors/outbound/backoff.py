"""Exponential backoff with jitter: how long to wait before sending again."""

from random import Random


def backoff(attempt: int, first: float, longest: float, random: Random) -> float:
    """Seconds after this attempt, from 1: doubled from `first` to `longest`, up to half off.

    Half is kept, so that a crowd that failed together neither comes back at once nor together.
    """
    return float(min(first * 2 ** (attempt - 1), longest)) * random.uniform(0.5, 1.0)
