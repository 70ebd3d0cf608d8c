"""Playback of one recorded run: its states, events and webhooks in their order, at their times.

Nothing that was recorded after a cancel is shown before the cancel comes.
"""

from __future__ import annotations

import asyncio

from mediagate_sandbox.cassettes.cassette import RecordedRun, Snapshot
from mediagate_sandbox.clock import Clock, in_time


class RunPlayback:
    """A run that a client has created again."""

    def __init__(self, run: RecordedRun, clock: Clock, time_scale: float) -> None:
        """Begin now. `time_scale`: seconds for each recorded one."""
        self.run = run
        self._clock = clock
        self._scale = time_scale
        self._from = (run.begun_at, clock.monotonic())
        self._cancel_at = run.cancels[0][0] if run.cancels else None
        self._cancelled = asyncio.Event()
        self._cancels_answered = 0
        self._index = 0
        self._shown_at = run.begun_at

    @classmethod
    def ended(cls, run: RecordedRun, clock: Clock) -> RunPlayback:
        """Return the playback of a run that is over."""
        playback = cls(run, clock, 0.0)
        playback._cancelled.set()
        playback.show(run.end.at)
        return playback

    async def wait_for(self, at: float) -> None:
        """Wait until what was recorded at `at` is due."""
        while not self._is_due(at):
            if self._waits_for_cancel(at):
                await self._cancelled.wait()
            else:
                recorded, begun = self._from
                rest = begun + (at - recorded) * self._scale - self._clock.monotonic()
                await in_time(self._clock, rest, self._cancel_comes())

    def show(self, at: float) -> None:
        """Note that what was recorded at `at` has been shown: older states are past."""
        self._shown_at = max(self._shown_at, at)

    def look(self) -> Snapshot:
        """Return the state that a poll gets.

        The newest that is due; but a poll sees each status at least once, and each error.
        """
        while (snapshot := self._next()) is not None and snapshot.at <= self._shown_at:
            self._index += 1
        known, new = self._current().status, None
        while (snapshot := self._next()) is not None and self._is_due(snapshot.at):
            if snapshot.status not in (known, new):
                if new is not None:
                    break
                new = snapshot.status
            self._index += 1
            if not snapshot.status:
                self.show(snapshot.at)
                return snapshot
        current = self._current()
        self.show(current.at)
        return current

    def cancel(self) -> Snapshot | None:
        """Cancel it as it was; the response, or None if no cancel was recorded."""
        if self._cancel_at is None:
            return None
        number = min(self._cancels_answered, len(self.run.cancels) - 1)
        self._cancels_answered += 1
        at, response = self.run.cancels[number]
        if not self._cancelled.is_set():
            self._from = (at, self._clock.monotonic())
            self._cancelled.set()
        return Snapshot(at + response.took, "", response)

    def _current(self) -> Snapshot:
        """The last state that is no error, up to where it is."""
        return next(each for each in reversed(self.run.snapshots[: self._index + 1]) if each.status)

    def _next(self) -> Snapshot | None:
        snapshots = self.run.snapshots
        return snapshots[self._index + 1] if self._index + 1 < len(snapshots) else None

    async def _cancel_comes(self) -> None:
        await self._cancelled.wait()

    def _waits_for_cancel(self, at: float) -> bool:
        return (
            self._cancel_at is not None and at >= self._cancel_at and not self._cancelled.is_set()
        )

    def _is_due(self, at: float) -> bool:
        recorded, begun = self._from
        if self._waits_for_cancel(at):
            return False
        return self._clock.monotonic() >= begun + (at - recorded) * self._scale
