"""Many callers, who ask for all kinds of things."""

from __future__ import annotations

import asyncio
from random import Random

from .retrying_caller import CallerRecord, RetryingCaller
from .sample_requests import random_sample


class Load:
    """Callers that ask for one thing after the other, until there is enough of it.

    One call in ten is made by two at once, one in ten once more when it has its answer.
    """

    def __init__(self, faithful: RetryingCaller, seed: int, least: int, *, callers: int) -> None:
        self.records: list[CallerRecord] = []
        self.enough = False
        self._faithful = faithful
        self._random = Random(seed)
        self._least = least
        self._callers = callers
        self._number = 0

    async def run(self) -> None:
        """Until `enough`, but so many calls at least."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._callers):
                group.create_task(self._ask())

    async def _ask(self) -> None:
        while not self.enough or self._number < self._least:
            self._number += 1
            random = Random(self._random.getrandbits(64))
            sample = random_sample(random, self._number)
            twins = random.choices((1, 2), (9, 1))[0]
            again = random.random() < 0.1
            calls = [self._faithful.call(sample) for _ in range(twins)]
            self.records += await asyncio.gather(*calls)
            if again:
                self.records.append(await self._faithful.call(sample))
