"""Change feed: changes of a tenant's generations, read once for all who watch from the same place.

A change that hundreds watch is read from the store once, and the answer is handed out to a few of
them in each turn of the event loop, so that other work comes in between. Nobody is woken where
nothing matches, nor by another tenant's change.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from mediagate_server.errors import InternalError, MediagateError, StoredFailure
from mediagate_server.generations.execution.attachment import draining_error
from mediagate_server.observability.bug_report import BackgroundJob, report_bug
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.generations import GenerationStore
from mediagate_server.store.records import Generation, GenerationFilter

MAX_CHANGES: Final = 100
"""Of one answer."""
WAKEUPS_PER_TURN: Final = 8
"""How many who watch go on in one turn of the event loop."""


@dataclass(slots=True, eq=False)
class SharedChange:
    """A change as all who watch share it: `forms` keeps what it is shown as, by view, so that only
    the first of them has to make it.
    """

    sequence: int
    generation: Generation
    forms: dict[int, Any] = field(default_factory=dict)


_Changes = tuple[SharedChange, ...]
_Key = tuple[str, bytes, int]


class _Tenant:
    """`changed` is notified whenever a generation of the tenant's changes."""

    __slots__ = ("changed", "reading")

    def __init__(self) -> None:
        self.changed = Notifier()
        self.reading = asyncio.Lock()
        """One read of a tenant's at a time: it shares the thread with everybody's lists."""


@dataclass(slots=True, eq=False)
class _Group:
    """Those who wait for the next changes after the same one, and the task that reads for them."""

    waiting: dict["asyncio.Future[_Changes]", None] = field(default_factory=dict)
    task: "asyncio.Task[None] | None" = None


class ChangeFeed:
    """For one event loop. Tenants are those that are configured: their number is bounded."""

    def __init__(self, store: GenerationStore) -> None:
        self._store = store
        self._tenants: dict[str, _Tenant] = {}
        self._groups: dict[_Key, _Group] = {}
        self._draining = False

    def publish(self, tenant: str) -> None:
        """A new version of a generation of this tenant's is durable."""
        if known := self._tenants.get(tenant):
            known.changed.notify()

    def drain(self) -> None:
        """All who wait are to go."""
        self._draining = True
        for tenant in self._tenants:
            self.publish(tenant)

    async def next_changes(
        self, tenant: str, generation_filter: GenerationFilter, sequence: int
    ) -> _Changes:
        """The next changes above `sequence` that match, once there are any.

        Raises Draining or StoreUnavailable.
        """
        key = (tenant, msgspec.msgpack.encode(generation_filter), sequence)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
            group.task = asyncio.create_task(self._read_for(group, key, generation_filter))
        answer: asyncio.Future[_Changes] = asyncio.get_running_loop().create_future()
        group.waiting[answer] = None
        try:
            return await answer
        finally:
            group.waiting.pop(answer, None)
            if not group.waiting and self._groups.get(key) is group:
                del self._groups[key]
                if group.task:
                    group.task.cancel()

    async def _read_for(
        self, group: _Group, key: _Key, generation_filter: GenerationFilter
    ) -> None:
        found: _Changes | MediagateError
        try:
            found = await self._read(key, generation_filter)
        except MediagateError as error:
            found = error
        except Exception as error:  # noqa: BLE001 - else those who wait would wait for ever
            report_bug(BackgroundJob.CHANGE_FEED, error)
            found = InternalError()
        # Whoever comes from now on is of another group: this one's answer is given.
        if self._groups.get(key) is group:
            del self._groups[key]
        waiting = tuple(group.waiting)
        for first in range(0, len(waiting), WAKEUPS_PER_TURN):
            for answer in waiting[first : first + WAKEUPS_PER_TURN]:
                if answer.done():
                    continue
                if isinstance(found, MediagateError):
                    # Each its own: an exception keeps the frames that it was raised in.
                    answer.set_exception(StoredFailure(found.failure))
                else:
                    answer.set_result(found)
            await asyncio.sleep(0)

    async def _read(self, key: _Key, generation_filter: GenerationFilter) -> _Changes:
        name, _, sequence = key
        tenant = self._tenants.setdefault(name, _Tenant())
        while True:
            seen = tenant.changed.count
            async with tenant.reading:
                found = await self._store.changed_since(
                    name, generation_filter, sequence, MAX_CHANGES
                )
            if found:
                return tuple(SharedChange(one.sequence, one.generation) for one in found)
            if self._draining:
                raise draining_error()
            await tenant.changed.wait(seen)
