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


def _level(thresholds: dict[QuarantineLevel, int], count: int) -> QuarantineLevel:
    reached = (level for level, least in thresholds.items() if count >= least)
    return next(reached, QuarantineLevel.NONE)


class Quarantine:
    """Of one generation, by its id: at NONE until it is raised."""

    __slots__ = ("_generation_id", "cause", "level")

    def __init__(self, generation_id: str) -> None:
        self._generation_id = generation_id
        self.level = QuarantineLevel.NONE
        self.cause = ""

    @property
    def is_unread(self) -> bool:
        """Whether outputs are not read any more, as reading them has ended processes."""
        return self.level is QuarantineLevel.UNREAD

    def raise_to(self, level: QuarantineLevel, cause: str) -> None:
        """Its output does harm: for the log and the metrics. To be called before it runs."""
        if level <= self.level:
            return
        self.level, self.cause = level, cause
        word = "crashes" if cause == MAX_CRASHES else "errors"
        metrics.generations_quarantined.labels(word).inc()
        _log.error(
            "generation_quarantined", id=self._generation_id, cause=word, reads=level.name.lower()
        )
