"""When a webhook is tried again: ten times over 24 hours, soon at first."""

import random
from datetime import datetime, timedelta
from typing import Final

_MINUTE: Final = 60.0
_HOUR: Final = 3_600.0
TRIES_AT: Final = (
    0.0,
    10.0,
    1 * _MINUTE,
    5 * _MINUTE,
    15 * _MINUTE,
    45 * _MINUTE,
    2 * _HOUR,
    6 * _HOUR,
    14 * _HOUR,
    24 * _HOUR,
)
"""Seconds after the event, of each try where none of them is late."""

_JITTER: Final = 0.1
"""By what part of itself a pause may be shorter, so that a receiver that comes back is not struck
by all at once."""


def next_try(tries: int, now: datetime, draw: random.Random) -> datetime | None:
    """When to try again after so many tries, the last one now; None: that was the last of all."""
    if tries >= len(TRIES_AT):
        return None
    pause = TRIES_AT[tries] - TRIES_AT[tries - 1]
    return now + timedelta(seconds=pause * (1 - _JITTER * draw.random()))
