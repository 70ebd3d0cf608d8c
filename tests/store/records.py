"""Records as the engine makes them."""

from datetime import UTC, datetime, timedelta

from mediagate_server.store.records import (
    Attempt,
    AttemptState,
    Cost,
    CostState,
    Generation,
    LedgerEntry,
    LedgerEntryKind,
    Purpose,
    State,
)
from mediagate_server.structs import replace

NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)


def generation_record(name: str, **changes: object) -> Generation:
    """A generation as it is when accepted."""
    attempt = Attempt(
        id=f"att_{name}",
        ordinal=1,
        purpose=Purpose.GENERATE,
        output_index=0,
        model="a/b",
        account="default",
        state=AttemptState.SUBMITTING,
        created_at=NOON,
        price="{}",
        input_hash="0",
    )
    generation = Generation(
        id=f"gen_{name}",
        version=1,
        tenant="local",
        request_id=f"request-{name}",
        method="GenerateText",
        fingerprint="f",
        modality="text",
        state=State.SUBMITTING,
        requested_model="x",
        model="a/b",
        parameters=({"parameter": "prompt", "handling": "honoured"},),
        shape={"kind": "text"},
        created_at=NOON,
        deadline_at=NOON + timedelta(minutes=10),
        cost=Cost(5, CostState.ESTIMATED, "2026"),
        sandbox=False,
        attempts=(attempt,),
    )
    return replace(generation, **changes)  # type: ignore[arg-type]


def reservation(generation: Generation) -> tuple[LedgerEntry, ...]:
    """What is held for its attempt."""
    return (
        LedgerEntry(generation.attempt.id, LedgerEntryKind.RESERVE, 5, CostState.ESTIMATED, "2026"),
    )


def settlement(generation: Generation) -> tuple[LedgerEntry, ...]:
    """What its attempt cost."""
    return (
        LedgerEntry(generation.attempt.id, LedgerEntryKind.SETTLE, 3, CostState.SETTLED, "2026"),
    )


def advance(
    generation: Generation,
    state: State,
    attempt: AttemptState | None = None,
    prediction_id: str | None = None,
) -> Generation:
    """The next version, in another state; what is given of its newest attempt changes too."""
    newest = generation.attempt
    newest = replace(
        newest,
        state=attempt or newest.state,
        prediction_id=newest.prediction_id if prediction_id is None else prediction_id,
    )
    return replace(
        generation,
        version=generation.version + 1,
        state=state,
        attempts=(*generation.attempts[:-1], newest),
    )
