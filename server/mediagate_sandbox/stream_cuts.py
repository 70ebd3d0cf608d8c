"""Stream cuts: which event streams are interrupted, and where.

A cut is set by the settings or by a test, and used up by the first streams that get that far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

How = Literal["abrupt", "clean"]


@dataclass(frozen=True, slots=True)
class StreamCut:
    """Cut of streams at a byte."""

    after_bytes: int
    times: int | None = 1
    """How many streams; None is every one."""
    how: How = "abrupt"
    """`abrupt` closes the connection in mid-answer; `clean` ends the answer, without `done`."""


class StreamCuts:
    """The active cut, if any."""

    def __init__(self, cut: StreamCut | None) -> None:
        """Start with a cut, or with none."""
        self._first = cut
        self._cut = cut
        self._left = cut.times if cut else 0
        self.count = 0
        """How many streams were cut so far."""

    @property
    def active(self) -> StreamCut | None:
        """The active cut; None once it is used up."""
        return self._cut if self._left is None or self._left > 0 else None

    def set_cut(self, cut: StreamCut | None) -> None:
        """Replace the cut, or remove it."""
        self._cut = cut
        self._left = cut.times if cut else 0

    def restore(self) -> None:
        """Restore the first cut and the counts."""
        self.set_cut(self._first)
        self.count = 0

    def use(self) -> None:
        """Count a cut stream."""
        self.count += 1
        if self._left is not None:
            self._left -= 1
