"""Decides which event streams are cut off, and where.

A cut is ordered by a setting or by a test and is spent by the first streams that get that far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

How = Literal["abrupt", "clean"]


@dataclass(frozen=True, slots=True)
class StreamCut:
    """An order to cut streams."""

    after_bytes: int
    times: int | None = 1
    """How many streams; None is every one."""
    how: How = "abrupt"
    """`abrupt` closes the connection in mid-answer; `clean` ends the answer, without `done`."""


class StreamCuts:
    """The order in force, if any."""

    def __init__(self, cut: StreamCut | None) -> None:
        """Begin with an order, or with none."""
        self._first = cut
        self._cut = cut
        self._left = cut.times if cut else 0
        self.made = 0
        """How many streams were cut so far."""

    @property
    def order(self) -> StreamCut | None:
        """The order in force; None once it is spent."""
        return self._cut if self._left is None or self._left > 0 else None

    def give(self, cut: StreamCut | None) -> None:
        """Put another order in force, or none."""
        self._cut = cut
        self._left = cut.times if cut else 0

    def restore(self) -> None:
        """Put the first order in force again, as if no stream had been cut."""
        self.give(self._first)
        self.made = 0

    def spend(self) -> None:
        """A stream was cut."""
        self.made += 1
        if self._left is not None:
            self._left -= 1
