"""What a bug ended is begun anew, later and later, until it ends or another process has it."""

import pytest

from mediagate_server.errors import StaleOwner
from mediagate_server.observability.bug_report import BackgroundJob
from mediagate_server.runtime.clock import SystemClock
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.runtime.tasks import restart_until_done


class RecordingClock(SystemClock):
    """Waits for nothing, and notes how long it should have."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def wait(self, notifier: Notifier, seconds: float, after: int = 0) -> bool:
        self.pauses.append(seconds)
        return notifier.count > after


async def test_restart_delays_double_up_to_a_minute() -> None:
    clock, tries = RecordingClock(), 9

    async def act() -> None:
        if len(clock.pauses) < tries:
            raise KeyError("a bug")

    await restart_until_done(BackgroundJob.SWEEP, act, clock, Notifier())
    assert clock.pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize("notified", [True, False])
async def test_a_lost_store_ends_the_restarts(*, notified: bool) -> None:
    """Whether it is told so, or finds out by what it writes."""
    clock, lost, tries = RecordingClock(), Notifier(), 0
    if notified:
        lost.notify()

    async def act() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise KeyError("a bug") if notified else StaleOwner

    await restart_until_done(BackgroundJob.SWEEP, act, clock, lost)
    assert tries == 1
