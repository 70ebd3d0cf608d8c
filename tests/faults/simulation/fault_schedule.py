"""What goes wrong in one simulation, and when; and what happened, in words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

POISONED = 0.2
"""The share of commits that jobs are put into whose rows nothing can hold."""


@dataclass
class FaultSchedule:
    """All draws of one seed. `kill` is called when the process that runs is to die.

    Deaths come at numbers of events, so that they hit every place between two of them: a commit
    that is about to be written, or is written and not told; a request about to leave, or gone.
    """

    seed: int
    bugs: float = 0.0
    """How often something raises that nobody expects."""
    api_errors: bool = True
    """Whether upstream's API answers creates with errors of its own."""
    now: Callable[[], float] = lambda: 0.0
    kill: Callable[[], None] = lambda: None
    trace: list[str] = field(default_factory=list)
    quiet: bool = False
    """From then on nothing goes wrong any more, so that everything can come to its end."""

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self._bugs = Random(f"bugs of {self.seed}")
        self._poison = Random(f"poison of {self.seed}")
        self.api = Random(f"errors of the API of {self.seed}")
        self.trouble = self.random.choice((0.0, 0.02, 0.1, 0.3))
        deaths = self.random.choice((0, 1, 2, 4, 8))
        self._deaths = {self.random.randint(1, 60 + 60 * deaths) for _ in range(deaths)}
        self._events = 0

    def event(self, what: str) -> None:
        """Something happens; afterwards the process may be dead."""
        self._events += 1
        self.trace.append(f"{self.now():.6f} {what}")
        if self._events in self._deaths:
            self.trace.append(f"{self.now():.6f} death")
            self.kill()

    def goes_wrong(self, share: float = 1.0) -> bool:
        """Whether this time it does."""
        return self.random.random() < self.trouble * share and not self.quiet

    def api_fails(self) -> bool:
        """Whether the API answers a create with an error of its own."""
        fails = self.api.random() < self.trouble / 2
        return fails and self.api_errors and not self.quiet

    def breaks(self) -> None:
        """Raise, now and then, what a bug of ours would."""
        if self._bugs.random() < self.bugs and not self.quiet:
            self.trace.append(f"{self.now():.6f} bug")
            raise ZeroDivisionError

    def poison(self, jobs: int) -> list[tuple[int, int]]:
        """Where in a batch of so many jobs what kind of job stands whose rows nothing can hold."""
        if self._poison.random() > POISONED or self.quiet:
            return []
        count = self._poison.randint(1, 3)
        return [(self._poison.randint(0, jobs), self._poison.randrange(99)) for _ in range(count)]

    def latency(self) -> float:
        """Seconds that something takes on the way."""
        return self.random.choice((0.001, 0.02, 0.02, 0.3))

    @property
    def digest(self) -> str:
        """The whole trace in a few letters."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()
