"""Opening and closing of attempts, and the state of a generation derived from them. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import to_builtins

from mediagate_server import ledger
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.pricing import prices
from mediagate_server.generations.dependencies import EngineDeps
from mediagate_server.generations.submission_request import Submission, input_hash
from mediagate_server.store.records import (
    Attempt,
    AttemptState,
    Cost,
    Generation,
    LedgerEntry,
    LedgerEntryKind,
    Purpose,
    State,
)
from mediagate_server.structs import replace

StepKey = tuple[Purpose, int]
"""What an attempt is for: its purpose, and the output that it makes."""

FIRST_OUTPUT: StepKey = (Purpose.GENERATE, 0)
"""The step whose model and parameters a generation is shown with."""

_ACCEPTED = AttemptState.ACCEPTED
_WAITING = (AttemptState.SUBMITTING, AttemptState.UNCONFIRMED, AttemptState.QUEUED)
OPEN_STATES = frozenset({_ACCEPTED, *_WAITING})
"""States of attempts that are not at their end."""
NEVER_ACCEPTED = frozenset({AttemptState.REFUSED, AttemptState.ABSENT})
"""States of attempts of which nothing runs upstream, as far as anybody can know."""


def step_key(attempt: Attempt) -> StepKey:
    """Whose attempt it is."""
    return attempt.purpose, attempt.output_index


def is_open(attempt: Attempt) -> bool:
    """Whether an attempt is not at its end."""
    return attempt.state in OPEN_STATES


def was_never_accepted(record: Generation) -> bool:
    """True where upstream took no attempt: callers get the status, and nothing is bound."""
    return record.state is State.FAILED and all(
        attempt.state in NEVER_ACCEPTED for attempt in record.attempts
    )


def newest_attempt(record: Generation, key: StepKey) -> Attempt:
    """The newest attempt of a step."""
    last = record.attempts[-1]
    if (last.purpose, last.output_index) == key:
        return last  # As nearly always: most generations have one step.
    return next(attempt for attempt in reversed(record.attempts) if step_key(attempt) == key)


def current_attempt(record: Generation, key: StepKey) -> Attempt:
    """The attempt that a step goes on with: the newest that is open; where none is, the newest.

    Of two that are open one is in doubt: what is known to run goes before it.
    """
    last = newest_attempt(record, key)
    if last.state is _ACCEPTED or len(record.attempts) == 1:
        return last
    still_open = [
        one for one in reversed(attempts_of_step(record, key)) if one.state in OPEN_STATES
    ]
    runs = (one for one in still_open if one.state is _ACCEPTED)
    return next(runs, still_open[0] if still_open else last)


def has_step_ended(record: Generation, key: StepKey) -> bool:
    """Whether a step is at its end, though an attempt of it may still be in doubt."""
    if record.state.is_terminal or record.state is State.FINALIZING:
        return True
    return any((one.purpose, one.output_index) == key for one in record.step_outcomes)


def output_attempt(record: Generation, key: StepKey) -> Attempt:
    """The attempt that a step's output is of; where none succeeded, the newest."""
    made = (
        one
        for one in reversed(attempts_of_step(record, key))
        if one.state is AttemptState.SUCCEEDED and not one.reason
    )
    return next(made, newest_attempt(record, key))


def attempts_of_step(record: Generation, key: StepKey) -> tuple[Attempt, ...]:
    """All attempts of a step, oldest first."""
    return tuple(attempt for attempt in record.attempts if step_key(attempt) == key)


def open_attempt(
    deps: EngineDeps, plan: Plan, key: StepKey, *, ordinal: int, queued: bool
) -> tuple[Attempt, LedgerEntry]:
    """A new right to send one POST, and its reservation."""
    now = deps.clock.now()
    purpose, output_index = key
    attempt = Attempt(
        id=f"att_{deps.new_token()}",
        ordinal=ordinal,
        purpose=purpose,
        output_index=output_index,
        model=plan.slug,
        account=deps.account,
        state=AttemptState.QUEUED if queued else AttemptState.SUBMITTING,
        created_at=now,
        price=prices.dump_price(plan.price),
        input_hash=input_hash(deps.hash_key, plan.input),
        sent_at=None if queued else now,
    )
    reserved = ledger.reserve_entry(plan, attempt.id)
    return replace(attempt, cost=entry_cost(reserved)), reserved


def close_attempt(
    attempt: Attempt, state: AttemptState, reason: str, now: datetime
) -> tuple[Attempt, LedgerEntry]:
    """An attempt that upstream never accepted, and the entry that releases its reservation."""
    released = ledger.release_entry(attempt.id, prices.load_price(attempt.price))
    closed = replace(
        attempt, state=state, reason=reason, cost=entry_cost(released), completed_at=now
    )
    return closed, released


def new_generation(
    deps: EngineDeps, submission: Submission, plan: Plan, opened: tuple[Attempt, ...]
) -> Generation:
    """The generation as it is written in the commit that precedes the send."""
    attempt = opened[0]
    record = Generation(
        id=f"gen_{deps.new_token()}",
        version=1,
        tenant=submission.tenant,
        request_id=submission.request_id,
        method=submission.method,
        fingerprint=submission.fingerprint,
        modality=plan.modality.value,
        state=State.QUEUED,
        requested_model=plan.requested_model,
        model=plan.slug,
        parameters=_report(plan),
        shape=shape_of_plan(plan),
        created_at=attempt.created_at,
        deadline_at=attempt.created_at + timedelta(seconds=submission.timeout),
        cost=attempt.cost or entry_cost(ledger.reserve_entry(plan, attempt.id)),
        sandbox=deps.is_sandbox,
        attempts=(),
        seed=plan.seed,
        labels=dict(submission.labels),
        substitution=plan.substitution.reason if plan.substitution else "",
        choice=to_builtins(plan.choice) if plan.choice else None,
        sends_webhook=bool(submission.webhook_url),
        token_limit=plan.token_limit,
    )
    return with_attempt(record, *opened)


def with_attempt(record: Generation, *changed: Attempt) -> Generation:
    """The record with these attempts in place of theirs, its cost and how it stands.

    New ones go behind the others and get the next ordinals.
    """
    by_id = {attempt.id: attempt for attempt in changed}
    attempts = [by_id.pop(attempt.id, attempt) for attempt in record.attempts]
    for attempt in by_id.values():
        attempts.append(replace(attempt, ordinal=len(attempts) + 1))
    return replace(
        record,
        state=_derive_state(record.state, attempts),
        attempts=tuple(attempts),
        cost=attempts_cost(record, attempts),
    )


def with_plan(record: Generation, plan: Plan) -> Generation:
    """The record as another model makes it."""
    return replace(
        record,
        model=plan.slug,
        parameters=_report(plan),
        shape=shape_of_plan(plan),
        seed=plan.seed,
        token_limit=plan.token_limit,
    )


def _report(plan: Plan) -> tuple[Mapping[str, str], ...]:
    report: tuple[Mapping[str, str], ...] = to_builtins(plan.report)
    return report


def shape_of_plan(plan: Plan) -> Mapping[str, str]:
    """How the output of a plan's model is read, as a record has it."""
    output, count = plan.output, plan.output_count
    shape = {"kind": output.kind.value, "field": output.field, "media_type": output.media_type}
    return {**shape, "count": str(count)} if count > 1 else shape


def _derive_state(before: State, attempts: list[Attempt]) -> State:
    """How a generation stands by its steps that are not at their end: as the foremost of them."""
    if before.is_terminal or before is State.FINALIZING:
        return before
    states = {attempt.state for attempt in attempts}
    for state in (_ACCEPTED, *_WAITING):
        if state in states:
            if state is _ACCEPTED:
                return State.RUNNING if before is State.RUNNING else State.STARTING
            return State(state.value)
    return before


def attempts_cost(record: Generation, attempts: list[Attempt]) -> Cost:
    """What the attempts cost together, by what is known of each."""
    costs = [attempt.cost for attempt in attempts]
    if len(costs) == 1:
        return costs[0] or record.cost
    total = ledger.total_cost(
        LedgerEntry(attempt.id, LedgerEntryKind.SETTLE, cost.nanos, cost.state, cost.price_date)
        for attempt, cost in zip(attempts, costs, strict=True)
        if cost is not None
    )
    return Cost(total.amount_nanos, total.state, total.price_as_of)


def entry_cost(entry: LedgerEntry) -> Cost:
    """A ledger line as the record shows it."""
    return Cost(entry.amount_nanos, entry.state, entry.price_as_of)
