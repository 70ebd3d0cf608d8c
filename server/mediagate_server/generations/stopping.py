"""The wish that a generation ends: who asked first, and how it reaches what is going on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from mediagate_server.generations.waking import Wake, end_now

DEADLINE: Final = "deadline"
"""The word for an end that the generation's own timeout asked for."""


class Stop:
    """Asked for once, for good. `because` is one of our own words, empty until then."""

    def __init__(self, because: str = "") -> None:
        self.because = because
        self._interrupted: list[asyncio.Timeout] = []
        self._told: list[Callable[[], object]] = []
        self._children: list[Stop] = []

    @property
    def asked(self) -> bool:
        """True once somebody asked for the end."""
        return bool(self.because)

    def ask(self, because: str) -> bool:
        """Ask for the end. True for the first who does."""
        if self.because:
            return False
        self.because = because
        for scope in self._interrupted:
            end_now(scope)
        self._interrupted.clear()
        for tell in self._told:
            tell()
        for child in self._children:
            child.ask(because)
        return True

    def tell(self, told: Callable[[], None]) -> None:
        """Have `told` called when the end is asked for."""
        self._told.append(told)

    def child(self) -> "Stop":
        """One that is asked for with this one, and may be asked for alone."""
        child = Stop(self.because)
        # No callable that holds this one: it would be freed by the collector alone.
        self._children.append(child)
        return child

    async def interrupts(self, doing: Awaitable[object], wake: Wake | None = None) -> bool:
        """Await it unless the end is asked for first, which cancels it. True where it ended.

        News cancel it likewise, a little later, where `wake` tells of them. No task is made for
        it, and there is one scope for both: a thousand open streams wait here.
        """
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._interrupted.append(scope)
                if wake is not None:
                    wake.ends(scope)
                if self.because:
                    end_now(scope)
                await doing
        except TimeoutError:
            if not scope.expired():
                raise
            return False
        finally:
            if wake is not None:
                wake.ends(None)
            if scope in self._interrupted:
                self._interrupted.remove(scope)
        return True
