"""A record that is changed by many at once: every change is kept, and every version comes once."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediagate_server.errors import StoreUnavailable
from mediagate_server.generations.execution.versioned_record import ApplyChange, VersionedRecord
from mediagate_server.runtime.clock import SystemClock, Timer
from mediagate_server.store.records import Generation, State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace
from tests.store.records import generation_record


def add(letter: str) -> ApplyChange:
    """A change that shows in the logs, once."""
    return lambda record: replace(record, logs=record.logs + letter)


class Versions:
    """What became durable, in order."""

    def __init__(self) -> None:
        self.saved: VersionedRecord | None = None
        self.seen: list[Generation] = []

    def wrote(self) -> None:
        assert self.saved is not None
        self.seen.append(self.saved.durable)


STEPS = st.lists(st.sampled_from(["tell", "commit", "both", "pause"]), max_size=12)


@given(STEPS)
@settings(max_examples=40)
async def test_no_change_is_lost_and_versions_increase_by_one(steps: list[str]) -> None:
    """Told in passing or committed, in whatever order they meet."""
    with TemporaryDirectory() as folder:
        async with SqliteStore(Path(folder)) as store:
            record = generation_record("a")
            await store.accept(record, (), 0)
            versions = Versions()
            saved = VersionedRecord(store, SystemClock(), record, lambda: None, versions.wrote)
            versions.saved = saved
            commits: list[asyncio.Task[None]] = []
            expected = ""
            for number, step in enumerate(steps):
                letter = chr(ord("a") + number)
                if step != "pause":
                    expected += letter
                if step == "tell":
                    saved.update_async(add(letter))
                elif step == "commit":
                    await saved.commit("settle", add(letter))
                elif step == "both":
                    commits.append(asyncio.create_task(saved.commit("settle", add(letter))))
                else:
                    await saved.flush()
            await asyncio.gather(*commits)
            await saved.flush()
            stored = await store.get(record.tenant, record.id)
        assert stored is not None
        assert sorted(stored.logs) == sorted(expected)
        assert stored == saved.durable == saved.current
        numbers = [generation.version for generation in versions.seen]
        assert numbers == sorted(set(numbers))
        assert stored.version == 1 + len(numbers)


class FailingStore:
    """A store whose next saves fail; the rest is real."""

    def __init__(self, store: SqliteStore, failures: int) -> None:
        self._store = store
        self.failures = failures

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def save(self, *args: object, **more: object) -> "asyncio.Future[int]":
        if self.failures:
            self.failures -= 1
            failed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            failed.set_exception(StoreUnavailable("away", retry_after=1.0))
            return failed
        return self._store.save(*args, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("notified", [True, False])
async def test_a_failed_commit_changes_nothing(tmp_path: Path, *, notified: bool) -> None:
    """A commit that failed is as if it had not been; what was told is written by the next."""
    async with SqliteStore(tmp_path) as real:
        record = generation_record("a")
        await real.accept(record, (), 0)
        store = FailingStore(real, 2 if notified else 1)
        announced: list[str] = []
        saved = VersionedRecord(
            store,  # type: ignore[arg-type]
            SystemClock(),
            record,
            _noting(announced),
            lambda: None,
        )
        if notified:
            saved.update_async(add("t"))
        with pytest.raises(StoreUnavailable):
            await saved.commit("settle", lambda draft: replace(add("x")(draft), state=State.FAILED))
        assert saved.durable == record
        assert saved.current.state is record.state
        await saved.commit("settle", add("y"))
        stored = await real.get(record.tenant, record.id)
    assert stored is not None
    assert stored.logs == ("ty" if notified else "y")
    assert stored.version == 2
    assert announced


def _noting(announced: list[str]) -> Callable[[], None]:
    return lambda: announced.append("!")


class Waiting(SystemClock):
    """Timers go off when the test says so."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], object]]] = []

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        entry = (seconds, callback)
        self.due.append(entry)
        return _Set(self.due, entry)

    def pass_by(self) -> float:
        """The next one goes off; how long it had been set for."""
        seconds, callback = self.due.pop(0)
        callback()
        return seconds


@dataclass
class _Set:
    due: list[tuple[float, Callable[[], object]]]
    entry: tuple[float, Callable[[], object]]

    def cancel(self) -> None:
        if self.entry in self.due:
            self.due.remove(self.entry)


@pytest.mark.parametrize("committed", [True, False])
async def test_failed_background_saves_are_retried(tmp_path: Path, *, committed: bool) -> None:
    """Though nothing else changes, at growing pauses; whoever waits is told that it failed."""
    async with SqliteStore(tmp_path) as real:
        record = generation_record("a")
        await real.accept(record, (), 0)
        store, clock = FailingStore(real, 3), Waiting()
        saved = VersionedRecord(store, clock, record, lambda: None, lambda: None)  # type: ignore[arg-type]
        saved.update_async(add("t"), write=not committed)
        if committed:
            with pytest.raises(StoreUnavailable):
                await saved.commit("settle", add("x"))
        with pytest.raises(StoreUnavailable):
            await saved.flush()
        pauses = []
        while clock.due:
            pauses.append(clock.pass_by())
            with suppress(StoreUnavailable):
                await saved.flush()
        stored = await real.get(record.tenant, record.id)
    assert pauses == sorted(pauses)
    assert len(pauses) >= 1
    assert stored == saved.durable
    assert stored is not None
    assert stored.logs == "t"


async def test_a_detached_record_retries_nothing(tmp_path: Path) -> None:
    """Another owner, or the next process, writes from then on."""
    async with SqliteStore(tmp_path) as real:
        record = generation_record("a")
        await real.accept(record, (), 0)
        clock = Waiting()
        saved = VersionedRecord(FailingStore(real, 9), clock, record, lambda: None, lambda: None)  # type: ignore[arg-type]
        saved.update_async(add("t"))
        with pytest.raises(StoreUnavailable):
            await saved.flush()
        assert clock.due
        saved.close()
        assert not clock.due
        with pytest.raises(StoreUnavailable):
            await saved.flush()
        assert not clock.due
