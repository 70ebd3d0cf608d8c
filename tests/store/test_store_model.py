"""The store against a model of it: whatever is done in whatever order, also across restarts."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from mediagate_server.errors import TooManyInFlight
from mediagate_server.store.generations import StaleWrite
from mediagate_server.store.records import (
    Checkpoint,
    Generation,
    GenerationFilter,
    LedgerEntry,
    RequestBinding,
    State,
)
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace
from tests.store.records import advance, generation_record, reservation, settlement
from tests.store_rows import ledger_entries

REQUESTS = st.sampled_from(["r1", "r2", "r3", "r4"])
TENANTS = st.sampled_from(["x", "y"])
GOING = st.sampled_from([State.QUEUED, State.STARTING, State.RUNNING, State.UNCONFIRMED])
ENDS = st.sampled_from([State.SUCCEEDED, State.FAILED, State.CANCELLED])
MOST = 4


class StoreMachine(RuleBasedStateMachine):
    """What the store holds beside what it should hold."""

    accepted = Bundle("accepted")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.store = self.opened()
        self.expected: dict[str, Generation] = {}
        self.bound: dict[tuple[str, str], str] = {}
        self.lines: dict[str, tuple[LedgerEntry, ...]] = {}
        self.pending: dict[str, bytes] = {}
        self.texts: dict[str, list[Checkpoint]] = {}
        self.numbers: dict[str, int] = {}
        self.webhooks: set[str] = set()
        self.count = 0

    def opened(self) -> SqliteStore:
        """The store on the folder, open."""
        store: SqliteStore = self.wait(SqliteStore(self.folder).__aenter__())
        return store

    def wait(self, work: Any) -> Any:
        """What comes of it."""

        async def awaited() -> Any:
            return await work

        return self.loop.run_until_complete(awaited())

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """What a method of the store gives, made on the loop."""

        async def called() -> Any:
            return await getattr(self.store, method)(*arguments, **named)

        return self.loop.run_until_complete(called())

    def teardown(self) -> None:
        """Closed, and gone."""
        self.wait(self.store.__aexit__(None, None, None))
        self.loop.close()
        shutil.rmtree(self.folder)

    def number(self, generation: Generation, change: int) -> None:
        """Numbers only grow."""
        assert change > max(self.numbers.values(), default=0)
        self.numbers[generation.id] = change

    @rule(target=accepted, tenant=TENANTS, request_id=REQUESTS, secret=st.binary(max_size=9))
    def accept(self, tenant: str, request_id: str, secret: bytes) -> str:
        """Bound, refused, or there."""
        self.count += 1
        generation = generation_record(f"{self.count:03}", tenant=tenant, request_id=request_id)
        running = sum(
            g.tenant == tenant and not g.state.is_terminal for g in self.expected.values()
        )
        existing = self.bound.get((tenant, request_id))
        try:
            outcome = self.call("accept", generation, reservation(generation), MOST, pending=secret)
        except TooManyInFlight:
            assert running >= MOST
            assert existing is None
            return ""
        if existing:
            assert outcome == RequestBinding(existing, "f")
            return existing
        assert running < MOST
        self.number(generation, outcome)
        self.expected[generation.id], self.bound[tenant, request_id] = generation, generation.id
        self.lines[generation.id], self.pending[generation.id] = reservation(generation), secret
        return generation.id

    @rule(name=accepted, state=GOING)
    def go_on(self, name: str, state: State) -> None:
        """The next version of what runs."""
        if name not in self.expected or self.expected[name].state.is_terminal:
            return
        self.expected[name] = advance(self.expected[name], state)
        self.number(self.expected[name], self.call("save", self.expected[name]))

    @rule(name=consumes(accepted), state=ENDS, releases=st.booleans())
    def end(self, name: str, state: State, releases: bool) -> None:
        """Settled, and nothing of its input and stream is kept."""
        if name not in self.expected or self.expected[name].state.is_terminal:
            return
        generation = self.expected[name] = advance(self.expected[name], state)
        change = self.call("save", generation, settlement(generation), release_request_id=releases)
        self.number(generation, change)
        self.lines[name] += settlement(generation)
        self.pending.pop(name, None)
        self.texts.pop(name, None)
        if releases and self.bound.get((generation.tenant, generation.request_id)) == name:
            del self.bound[generation.tenant, generation.request_id]

    @rule(name=accepted, ahead=st.sampled_from([-1, 0, 2]))
    def write_stale(self, name: str, ahead: int) -> None:
        """Any version but the next is refused, with all that comes with it."""
        if name not in self.expected:
            return
        generation = replace(self.expected[name], version=self.expected[name].version + ahead)
        try:
            self.call("save", generation, settlement(generation))
        except StaleWrite:
            return
        raise AssertionError(generation.version)

    @rule(name=accepted, text=st.text(max_size=5))
    def stream(self, name: str, text: str) -> None:
        """A piece that follows on the last one; of one that has ended nothing is kept."""
        if name not in self.expected:
            return
        pieces = self.texts.setdefault(name, [])
        start = pieces[-1].sequence if pieces else 0
        piece = Checkpoint(start, start + 1 + len(text), "1:0", text)
        self.call("save_checkpoint", name, piece)
        if not self.expected[name].state.is_terminal:
            pieces.append(piece)

    @rule(number=st.integers(0, 3))
    def claim(self, number: int) -> None:
        """True once."""
        first = self.call("claim_webhook", f"msg_{number}", generation_record("x").created_at)
        assert first == (f"msg_{number}" not in self.webhooks)
        self.webhooks.add(f"msg_{number}")

    @rule()
    def restart(self) -> None:
        """Everything is as it was."""
        self.wait(self.store.__aexit__(None, None, None))
        self.store = self.opened()

    @invariant()
    def equals_the_model(self) -> None:
        """Generations, ledger, inputs, texts, bindings and changes."""
        for name, generation in self.expected.items():
            assert self.call("get", generation.tenant, name) == generation
            lines = self.loop.run_until_complete(ledger_entries(self.store, generation.attempt.id))
            assert lines == self.lines[name]
            assert self.call("pending_input", name) == self.pending.get(name)
            resumption = self.call("resumptions", (name,))[name]
            assert resumption.checkpoints == tuple(self.texts.get(name, ()))
        going = [g for g in self.expected.values() if not g.state.is_terminal]
        assert self.call("list_unfinished") == tuple(going)
        for (tenant, request_id), name in self.bound.items():
            assert self.call("find_binding", tenant, request_id) == RequestBinding(name, "f")
        for tenant in ("x", "y"):
            changes = self.call("changed_since", tenant, GenerationFilter(), 0, 999)
            expected = {n: s for n, s in self.numbers.items() if self.expected[n].tenant == tenant}
            assert {c.generation.id: c.sequence for c in changes} == expected
            assert sorted(expected.values()) == [c.sequence for c in changes]


StoreMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=25)
TestStore = StoreMachine.TestCase
