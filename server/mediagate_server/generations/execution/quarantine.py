"""Quarantine: how a generation is ended whose outside data does harm to whoever handles it.

A generation that brought a process down twice, or whose handling has failed five times in a row, is
not handled the same way again: its end and its cost are taken from upstream's record with the
output passed over. Where even that does harm nothing of it is read any more, and the cost is
unknown. Either way it ends as FAILED, QUARANTINED.
"""

from enum import IntEnum
from typing import Final

import structlog

from mediagate_server.observability import metrics

_log = structlog.get_logger()

MAX_CRASHES: Final = "handling it has brought the server down"
MAX_ERRORS: Final = "handling it failed again and again"


class QuarantineLevel(IntEnum):
    """What is still read of upstream's answers about a generation."""

    NONE = 0
    """All."""
    WITHOUT_OUTPUT = 1
    """How it ended and what it cost."""
    UNREAD = 2
    """Nothing: what it cost is unknown."""


_BY_BLAMES: Final = {QuarantineLevel.UNREAD: 4, QuarantineLevel.WITHOUT_OUTPUT: 2}
_BY_BREAKS: Final = {QuarantineLevel.UNREAD: 8, QuarantineLevel.WITHOUT_OUTPUT: 5}
"""The first comes after half a minute of tries (see tasks.py), the second after some more."""


def level_after_crashes(blames: int) -> QuarantineLevel:
    """By the number of processes that died while they handled it."""
    return _level(_BY_BLAMES, blames)


def level_after_errors(breaks: int) -> QuarantineLevel:
    """By the number of errors in a row, without any progress that was written down between them."""
    return _level(_BY_BREAKS, breaks)


def report_quarantine(generation_id: str, level: QuarantineLevel, cause: str) -> None:
    """Raise the alarm."""
    word = "crashes" if cause == MAX_CRASHES else "errors"
    metrics.generations_quarantined.labels(word).inc()
    _log.error("generation_quarantined", id=generation_id, cause=word, reads=level.name.lower())


def _level(thresholds: dict[QuarantineLevel, int], count: int) -> QuarantineLevel:
    reached = (level for level, least in thresholds.items() if count >= least)
    return next(reached, QuarantineLevel.NONE)
