"""A loop whose clock jumps to the next timer: hours pass in no time and always in the same way."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest


class VirtualLoop(asyncio.SelectorEventLoop):
    """Where a real loop would sleep, this one moves its clock.

    Each turn of the loop takes a microsecond: timers set to this very moment would never pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.moment = 1_000.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None = None) -> Any:
            self.moment += 1e-6
            ready = select(0)
            if ready or timeout == 0:
                return ready
            if timeout is None:
                msg = "everything waits for something that no timer will bring"
                raise AssertionError(msg)
            self.moment += timeout
            return ready

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.moment


@pytest.fixture(scope="session")
def run_on_virtual_loop() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run one coroutine on a loop of its own with a virtual clock."""

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(main)

    return run
