"""What a service hands over to have something made, and the first record of it."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson

from mediagate_server import ledger
from mediagate_server.catalog import price_json
from mediagate_server.catalog.plan import Plan
from mediagate_server.errors import DeadlineTooShort
from mediagate_server.store.records import (
    Attempt,
    AttemptState,
    Cost,
    Generation,
    Purpose,
    State,
)

SHORTEST_RUN = 5.0
"""Seconds: the shortest `Cancel-After` that Replicate takes."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One paid call, checked and ready to be bound. Durations in seconds.

    `fingerprint` tells two requests apart that came with the same request_id. `cancel_on_leaving`
    is the contract's on_disconnect.
    """

    tenant: str
    method: str
    request_id: str
    fingerprint: str
    timeout: float
    cancel_on_leaving: bool = True
    grace: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.timeout < SHORTEST_RUN:
            raise DeadlineTooShort(
                f"timeout must be at least {SHORTEST_RUN:g} s",
                metadata={"timeout": f"{self.timeout:g}", "shortest": f"{SHORTEST_RUN:g}"},
            )


def canonical_request_id(asked: str) -> str:
    """A request_id as it is bound: every way to write a UUID is the same one. Empty: drawn here."""
    return str(UUID(asked) if asked else uuid4())


def first_record(
    submission: Submission, plan: Plan, *, now: datetime, account: str, sandbox: bool, queued: bool
) -> Generation:
    """The generation as it is written in the commit that precedes the send."""
    attempt = Attempt(
        id=f"att_{secrets.token_hex(16)}",
        ordinal=1,
        purpose=Purpose.GENERATE,
        output_index=0,
        model=plan.slug,
        account=account,
        state=AttemptState.QUEUED if queued else AttemptState.SUBMITTING,
        created_at=now,
        price=price_json.dumps(plan.price),
        input_hash=input_hash(plan.input),
    )
    reserved = ledger.reserve(plan, attempt.id)
    return Generation(
        id=f"gen_{secrets.token_hex(16)}",
        version=1,
        tenant=submission.tenant,
        request_id=submission.request_id,
        method=submission.method,
        fingerprint=submission.fingerprint,
        modality=plan.modality.value,
        state=State.QUEUED if queued else State.SUBMITTING,
        requested_model=plan.requested_model,
        model=plan.slug,
        parameters=tuple(asdict(line) for line in plan.report),
        shape=asdict(plan.output),
        created_at=now,
        deadline_at=now + timedelta(seconds=submission.timeout),
        cost=Cost(reserved.amount_nanos, reserved.state, reserved.price_as_of),
        sandbox=sandbox,
        attempts=(attempt,),
        seed=plan.seed,
        labels=dict(submission.labels),
    )


def next_attempt(attempt: Attempt, *, now: datetime, queued: bool) -> Attempt:
    """A new right to send one POST, after `attempt` was refused."""
    return replace(
        attempt,
        id=f"att_{secrets.token_hex(16)}",
        ordinal=attempt.ordinal + 1,
        state=AttemptState.QUEUED if queued else AttemptState.SUBMITTING,
        created_at=now,
        reason="",
        cost=None,
        completed_at=None,
    )


def input_hash(model_input: Mapping[str, Any]) -> str:
    """SHA-256 of the input as canonical JSON: finds it again in upstream's list."""
    return hashlib.sha256(orjson.dumps(model_input, option=orjson.OPT_SORT_KEYS)).hexdigest()
