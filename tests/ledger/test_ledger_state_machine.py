"""The ledger as a machine: whatever happens in whatever order, the book and the bill agree."""

import asyncio
import random
from collections.abc import Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from mediagate_server import ledger
from mediagate_server.generations.transitions.attempts import attempts_cost, entry_cost
from mediagate_server.store.generations import StaleWrite
from mediagate_server.store.records import (
    Attempt,
    AttemptState,
    CostState,
    Generation,
    LedgerEntry,
    LedgerEntryKind,
    State,
)
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace
from tests.store.records import generation_record
from tests.store_rows import ledger_entries

AMOUNTS = st.one_of(st.none(), st.integers(0, 10**12))


def entry(attempt_id: str, kind: LedgerEntryKind, nanos: int | None) -> LedgerEntry:
    """A line of the ledger, as sure as its amount is."""
    state = CostState.UNKNOWN if nanos is None else CostState.SETTLED
    if kind is LedgerEntryKind.RESERVE and nanos is not None:
        state = CostState.ESTIMATED
    return LedgerEntry(attempt_id, kind, nanos, state, "2026-11-24")


class LedgerMachine(RuleBasedStateMachine):
    """Generations with many attempts over a real store that is closed and opened in between.

    `paid` is the model: what each attempt was billed in the end, None where nobody knows.
    """

    generations = Bundle("generations")

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = TemporaryDirectory()
        self.records: dict[str, Generation] = {}
        self.reserved: dict[str, int | None] = {}
        self.settled: dict[str, int | None] = {}
        self.store = self.run(SqliteStore(Path(self.folder.name)).__aenter__())

    def run(self, doing: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(doing)

    def save(self, record: Generation, *entries: LedgerEntry) -> None:
        """The next version, with the cost that its attempts make together."""
        cost = attempts_cost(record, list(record.attempts))
        record = replace(record, version=record.version + 1, cost=cost)

        async def saving() -> None:
            await self.store.save(record, entries)

        self.run(saving())
        self.records[record.id] = record

    @rule(target=generations, nanos=AMOUNTS)
    def accept(self, nanos: int | None) -> str:
        record = generation_record(f"{len(self.records)}")
        line = entry(record.attempt.id, LedgerEntryKind.RESERVE, nanos)
        attempt = replace(record.attempt, cost=entry_cost(line))
        record = replace(record, attempts=(attempt,), cost=entry_cost(line))
        self.run(self.store.accept(record, (line,), 0))
        self.records[record.id] = record
        self.reserved[attempt.id] = nanos
        return record.id

    @rule(name=generations, nanos=AMOUNTS)
    def settle(self, name: str, nanos: int | None) -> None:
        """The newest attempt ends; one that has ended is left alone."""
        record = self.records[name]
        if record.attempt.id in self.settled:
            return
        line = entry(record.attempt.id, LedgerEntryKind.SETTLE, nanos)
        self.save(_closed(record, record.attempt, line, AttemptState.SUCCEEDED), line)
        self.settled[line.attempt_id] = nanos

    @rule(name=generations, nanos=AMOUNTS)
    def refuse_and_try_again(self, name: str, nanos: int | None) -> None:
        """The newest attempt was not taken: one commit closes it and opens the next."""
        record = self.records[name]
        if record.attempt.id in self.settled:
            return
        released = entry(record.attempt.id, LedgerEntryKind.RELEASE, 0)
        reserved = entry(f"{record.attempt.id}x", LedgerEntryKind.RESERVE, nanos)
        opened = replace(
            record.attempt,
            id=reserved.attempt_id,
            ordinal=record.attempt.ordinal + 1,
            state=AttemptState.QUEUED,
            cost=entry_cost(reserved),
        )
        record = _closed(record, record.attempt, released, AttemptState.ABSENT)
        self.save(replace(record, attempts=(*record.attempts, opened)), released, reserved)
        self.settled[released.attempt_id] = 0
        self.reserved[opened.id] = nanos

    @rule(name=generations, nanos=AMOUNTS, seed=st.integers())
    def turn_up_late(self, name: str, nanos: int | None, seed: int) -> None:
        """An attempt declared absent was paid after all: its settlement beats its release."""
        record = self.records[name]
        absent = [attempt for attempt in record.attempts if attempt.state is AttemptState.ABSENT]
        if not absent:
            return
        attempt = random.Random(seed).choice(absent)
        line = entry(attempt.id, LedgerEntryKind.SETTLE, nanos)
        self.save(_closed(record, attempt, line, AttemptState.CANCELLED), line)
        self.settled[attempt.id] = nanos

    @rule(name=generations)
    def write_again(self, name: str) -> None:
        """The same version a second time, as a process would that woke up late: refused whole."""
        record = self.records[name]
        lines = tuple(self.run(ledger_entries(self.store, record.attempt.id)))

        async def saving() -> None:
            await self.store.save(record, lines)

        try:
            self.run(saving())
        except StaleWrite:
            return
        raise AssertionError("a version was written twice")

    @rule()
    def restart(self) -> None:
        """The process ends; the next one reads what it finds."""
        self.run(self.store.__aexit__(None, None, None))
        self.store = self.run(SqliteStore(Path(self.folder.name)).__aenter__())
        for record in self.records.values():
            assert self.run(self.store.get(record.tenant, record.id)) == record

    @invariant()
    def each_attempt_is_reserved_once_and_ended_by_what_it_cost(self) -> None:
        for attempt_id, reserved in getattr(self, "reservation", {}).items():
            lines = self.run(ledger_entries(self.store, attempt_id))
            kinds = [line.kind for line in lines]
            assert len(kinds) == len(set(kinds))
            assert kinds[0] is LedgerEntryKind.RESERVE
            assert lines[0].amount_nanos == reserved
            entry = ledger.current_entry_by_attempt(lines)[attempt_id]
            assert entry.amount_nanos == self.settled.get(attempt_id, reserved)

    @invariant()
    def a_generation_costs_what_its_attempts_do(self) -> None:
        for record in getattr(self, "records", {}).values():
            amounts = [
                self.settled.get(attempt.id, self.reserved[attempt.id])
                for attempt in record.attempts
            ]
            known_amounts = [amount for amount in amounts if amount is not None]
            total = sum(known_amounts) if len(known_amounts) == len(amounts) else None
            assert record.cost.nanos == total
            assert (record.cost.state is CostState.UNKNOWN) == (total is None)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self.store.__aexit__(None, None, None))
            self.folder.cleanup()
            self.loop.close()


def _closed(
    record: Generation, attempt: Attempt, line: LedgerEntry, state: AttemptState
) -> Generation:
    closed = replace(attempt, state=state, cost=entry_cost(line))
    attempts = tuple(closed if old.id == attempt.id else old for old in record.attempts)
    return replace(record, attempts=attempts, state=State.RUNNING)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=25)
