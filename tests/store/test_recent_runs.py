"""How long models ran of late, as a later process reads it."""

from datetime import timedelta
from pathlib import Path

from mediagate_server.store.records import AttemptState, Generation, State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace

from .records import NOON, advance, generation_record, reservation, settlement


async def ended(store: SqliteStore, name: str, model: str, seconds: float, **more: object) -> None:
    """A success that ran so long, or whatever else is said of it."""
    first = generation_record(name, model=model)
    await store.accept(first, reservation(first), 0)
    last: Generation = advance(first, State.SUCCEEDED, AttemptState.SUCCEEDED, f"p-{name}")
    attempt = replace(last.attempt, completed_at=NOON + timedelta(seconds=seconds))
    changes = {"started_at": NOON, "attempts": (attempt,), **more}
    await store.save(replace(last, **changes), settlement(first))  # type: ignore[arg-type]


async def test_the_latest_successful_runs_of_each_model_are_read(tmp_path: Path) -> None:
    """The newest first, so many of each; successes alone, of Replicate or of the sandbox."""
    async with SqliteStore(tmp_path) as store:
        for number in range(4):
            await ended(store, f"a{number}", "a/a", number)
        await ended(store, "b", "b/b", 7.5)
        await ended(store, "failed", "b/b", 8, state=State.FAILED)
        await ended(store, "odd", "b/b", 9, started_at=None)
        await ended(store, "toy", "b/b", 10, sandbox=True)
        await ended(store, "long", "b/b", 11, logs="x" * 100_000)
        unfinished = generation_record("running", model="b/b")
        await store.accept(unfinished, reservation(unfinished), 0)
        real = await store.history.recent_runs(3, sandbox=False)
        toys = await store.history.recent_runs(3, sandbox=True)
    assert real == (("b/b", 7.5), ("a/a", 3), ("a/a", 2), ("a/a", 1))
    assert toys == (("b/b", 10),)
