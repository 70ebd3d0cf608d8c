"""Optimistic versioning of a generation's record, and its way to the store, version by version.

Changes are functions from record to record, so that two concurrent ones are both kept. What money
or a caller's answer depends on is committed: it is true once it is durable. Everything else is
announced at once and written asynchronously.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mediagate_server.errors import BudgetExceeded, PriceUnknown, StoreUnavailable
from mediagate_server.runtime import failpoints
from mediagate_server.runtime.clock import Clock, Timer
from mediagate_server.store.generations import GenerationStore, PredictionAlreadyClaimed
from mediagate_server.store.records import Generation, LedgerEntry
from mediagate_server.structs import replace

ApplyChange = Callable[[Generation], Generation]
Entries = tuple[LedgerEntry, ...] | Callable[[Generation], tuple[LedgerEntry, ...]]


def _never(_: Generation) -> bool:
    return False


def _nothing() -> None:
    pass


_SOON: Final = 0.25
"""Seconds that a change may wait for another commit to take it along."""
_AGAIN: Final = 1.0
_LONGEST: Final = 30.0
"""Seconds until what could not be written is tried again: at first, and at most."""


class VersionedRecord:
    """A record: `current` is what is known, `durable` what is written.

    `announce` is called at any change, `wrote` whenever a version has become durable.
    """

    def __init__(
        self,
        store: GenerationStore,
        clock: Clock,
        record: Generation,
        announce: Callable[[], None],
        wrote: Callable[[], None],
    ) -> None:
        self.current = record
        self.durable = record
        self._store = store
        self._clock = clock
        self._announce = announce
        self._wrote = wrote
        self._version = record.version
        self._turn = asyncio.Lock()
        self._passing: asyncio.Future[int] | None = None
        self._unwritten = False
        self._failpoint = ""
        self._timer: Timer | None = None
        self._pause = _AGAIN
        self._parted = False

    def close(self) -> None:
        """Announce nothing any more, and retry nothing."""
        self._announce = _nothing
        self._parted = True
        self._forget_timer()

    async def commit(
        self,
        failpoint: str,
        change: ApplyChange,
        entries: Entries = (),
        *,
        release_request_id: Callable[[Generation], bool] = _never,
        claims: tuple[str, ...] = (),
    ) -> None:
        """Write the change and its ledger lines durably, then tell everybody.

        `failpoint` names the one of this commit. `entries` may depend on the record as it is when
        its turn comes, `release_request_id` on what becomes of it. What `change` raises goes to
        the caller, with nothing changed.

        StoreUnavailable, PredictionAlreadyClaimed, and where the lines reserve, BudgetExceeded or
        PriceUnknown: nothing changed, neither here nor there. To be awaited by a task that nobody
        cancels but the end of this process.
        """
        async with self._turn:
            if self._passing is not None:
                with suppress(StoreUnavailable):
                    await self._passing
                self._check_pending()
            lines = entries(self.current) if callable(entries) else entries
            record = replace(change(self.current), version=self._version + 1)
            was_unwritten, self._unwritten = self._unwritten, False
            failpoints.hit(f"before_{failpoint}")
            try:
                await self._store.save(
                    record, lines, release_request_id=release_request_id(record), claims=claims
                )
            except (StoreUnavailable, PredictionAlreadyClaimed, BudgetExceeded, PriceUnknown):
                self._unwritten = self._unwritten or was_unwritten
                if self._unwritten:
                    self._write_again()
                raise
            failpoints.hit(f"after_{failpoint}")
            self._version += 1
            self._pause = _AGAIN
            # Once more, because of updates in the meantime.
            self.current = replace(change(self.current), version=self._version)
            self.durable = record
        if self._unwritten:
            self._write()
        self._wrote()
        self._announce()

    def update_async(self, change: ApplyChange, *, failpoint: str = "", write: bool = True) -> None:
        """Change what is known, and write it without waiting.

        `write` False leaves the writing to the commit that is about to come. `failpoint` names its
        failpoint, where it has one.
        """
        self.current = change(self.current)
        self._unwritten = True
        self._failpoint = failpoint or self._failpoint
        if write:
            self._write()
        self._announce()

    async def flush(self) -> None:
        """Until all updates are durable. StoreUnavailable: they are not yet, and are retried."""
        while self._unwritten or self._passing is not None:
            self._write()
            passing = self._passing
            if passing is None:
                async with self._turn:  # A commit is on its way; what it leaves is looked at again.
                    continue
            await asyncio.wait({passing})
            if error := passing.exception():
                raise (
                    error
                    if isinstance(error, StoreUnavailable)
                    else StoreUnavailable("the store does not take it now", retry_after=1.0)
                ) from error

    def _write(self) -> None:
        self._check_pending()
        if self._turn.locked() or not self._unwritten:
            return  # The commit under way looks again at its end.
        if self._passing is not None:
            self._set_timer(_SOON)
            return
        self._forget_timer()
        self._unwritten = False
        self._version += 1
        self.current = replace(self.current, version=self._version)
        saved, failpoint, self._failpoint = self.current, self._failpoint, ""
        failpoints.hit(f"before_{failpoint}")
        self._passing = self._store.save(saved)
        self._passing.add_done_callback(lambda done: self._on_save_done(done, saved, failpoint))

    def _write_again(self) -> None:
        """What the store has not taken is tried again, though nothing else may ever change."""
        self._set_timer(self._pause)
        self._pause = min(2 * self._pause, _LONGEST)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is None and not self._parted:
            self._timer = self._clock.call_later(seconds, self._retry_write)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _retry_write(self) -> None:
        self._timer = None
        self._write()

    def _on_save_done(self, done: "asyncio.Future[int]", saved: Generation, failpoint: str) -> None:
        if done.cancelled():
            return  # With this process: what became of it is in the store.
        self._check_pending()
        if done.exception() is None:
            failpoints.hit(f"after_{failpoint}")
            self.durable = saved
            self._wrote()
            self._announce()

    def _check_pending(self) -> None:
        """What became of the save in passing; one that failed is written again by the next."""
        if self._passing is None or not self._passing.done():
            return
        if self._passing.exception() is not None:
            self._version -= 1
            self._unwritten = True
            self._write_again()
        else:
            self._pause = _AGAIN
        self._passing = None
