"""How many generations of a tenant run: counted in memory to accept, and in the file to tell."""

import random
from collections import Counter
from pathlib import Path

import pytest

from mediagate_server.errors import TooManyInFlight
from mediagate_server.store.generations import StaleWrite
from mediagate_server.store.records import AttemptState, State
from mediagate_server.store.sqlite import SqliteStore
from tests.store.records import advance, generation_record, reservation

TENANTS = ("a", "b", "c")


async def check(store: SqliteStore, running: Counter[str], name: str) -> None:
    """The file counts as many, and so does who accepts: one more than there are is refused."""
    for tenant in TENANTS:
        assert await store.in_flight(tenant) == running[tenant]
        if running[tenant]:
            refused = generation_record(f"{name}_{tenant}", tenant=tenant)
            with pytest.raises(TooManyInFlight) as error:
                await store.accept(refused, reservation(refused), running[tenant])
            assert error.value.failure.metadata["in_flight"] == str(running[tenant])


async def test_running_counts_equal_a_full_count(tmp_path: Path) -> None:
    """Through every kind of change: accepted, moved, ended, ended twice, failed, and reopened."""
    async with SqliteStore(tmp_path) as store:
        live = [generation_record(str(n), tenant=random.choice(TENANTS)) for n in range(60)]
        for generation in live:
            await store.accept(generation, reservation(generation), 0)
        for step in range(200):
            at = random.randrange(len(live))
            state = random.choice([State.RUNNING, State.SUCCEEDED, State.FAILED, State.STARTING])
            following = advance(live[at], state, AttemptState.ACCEPTED)
            if step % 10 == 0:
                with pytest.raises(StaleWrite):
                    await store.save(advance(following, State.CANCELLED))
            await store.save(following)
            live[at] = following
        running = Counter(
            generation.tenant for generation in live if not generation.state.is_terminal
        )
        await check(store, running, "same")
    async with SqliteStore(tmp_path) as store:
        await check(store, running, "next")
