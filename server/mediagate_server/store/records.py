"""What is kept of a generation, as frozen facts. Knows no SQL and no protobuf.

One `Generation` is one document: whoever runs it owns it, changes it by `replacing.replace`, and
saves it with the next `version`; a save that is not the next version is refused, so that two owners
can never both write.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct, field

from mediagate_server.errors import Failure


class State(StrEnum):
    """Where a generation stands; the words of the contract in lower case."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    UNCONFIRMED = "unconfirmed"
    STARTING = "starting"
    RUNNING = "running"
    FINALIZING = "finalizing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """True for the three ends."""
        return self in TERMINAL


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


class AttemptState(StrEnum):
    """Where an attempt stands; the words of the contract in lower case."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    UNCONFIRMED = "unconfirmed"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    ABSENT = "absent"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABORTED = "aborted"


class Purpose(StrEnum):
    """What an attempt is for."""

    SCREEN = "screen"
    GENERATE = "generate"


class CostState(StrEnum):
    """How sure an amount is, in the contract's words."""

    ESTIMATED = "estimated"
    SETTLED = "settled"
    UNKNOWN = "unknown"
    ASSUMED = "assumed"


LARGEST_NANOS: Final = 2**63 - 1
"""The largest amount that the store and the contract hold."""


class Cost(Struct, frozen=True):
    """Nano-dollars and how sure they are; None is unknown, never zero."""

    nanos: int | None
    state: CostState
    price_date: str = ""


class Usage(Struct, frozen=True, omit_defaults=True):
    """What a run used, as upstream reported it; None where it did not. Durations in seconds."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_characters: int | None = None
    images: int | None = None
    media_seconds: float | None = None
    run_seconds: float | None = None


class StoredMedia(Struct, frozen=True, omit_defaults=True):
    """One medium. `uri` is upstream's link or a data URI; empty where only our copy is left.

    What the file is (`size` in bytes, `seconds` that it plays) is known once it is `kept`;
    `failure` says why it could not be.
    """

    uri: str
    media_type: str
    expires_at: datetime | None = None
    seconds: float | None = None
    size: int | None = None
    sha256: str = ""
    width: int | None = None
    height: int | None = None
    kept: bool = False
    failure: Failure | None = None


class Output(Struct, frozen=True, omit_defaults=True):
    """What was made: a text, or media in the order asked for.

    `value` is the output of a model run by its slug, as JSON, with `media:N` where its links were.
    `exact_json` is the same as text, where a part of it stands as text in `value`; else empty.
    `document` is all of a text or JSON that is too large for a record; `text` is its beginning
    then. `pending`: it is paid, and still to be read from upstream's answer.
    """

    text: str | None = None
    media: tuple[StoredMedia, ...] = ()
    value: Any = None
    exact_json: str = ""
    document: StoredMedia | None = None
    pending: bool = False


class SafetyFinding(Struct, frozen=True):
    """One kind of harm that a safety model found, by its own code."""

    code: str
    name: str


class Verdict(Struct, frozen=True, omit_defaults=True):
    """What a safety model said. `unreadable`: its answer, or a part of it, could not be read;
    then it is never safe. `confidence` is 0 to 1; None where the model gives no figure.
    `not_checked`: why no model was asked; then it is neither safe nor unsafe.
    """

    safe: bool
    model: str
    harms: tuple[SafetyFinding, ...] = ()
    unreadable: bool = False
    confidence: float | None = None
    not_checked: str = ""

    def __post_init__(self) -> None:
        if self.safe and (self.unreadable or self.harms or self.not_checked):
            raise ValueError("what was found or could not be read is not safe")


class ChargeBasis(Struct, frozen=True, omit_defaults=True):
    """What an attempt's charge was reckoned from: what was used, and by which row of its price.

    `outputs` is how many media its terminal record held, as far as they were counted. `tier` says
    in words when that row holds; empty: always, or none was found.
    """

    usage: Usage
    outputs: int = 0
    tier: str = ""


class Attempt(Struct, frozen=True, omit_defaults=True):
    """The right to send one POST, and what became of it.

    `price` is the price list held at submit, as text of the catalog's; `input_hash` is a keyed
    hash of the input sent, to recognise it in upstream's list without keeping it. `sent_at` is the
    time of the commit that precedes the send; None while it waits. `cost` is what is held, then
    what it cost; `charged` says what of, once it is settled on a terminal record. `api_error_at` is
    when upstream's API answered it with an error of its own, which leaves it in doubt. `beside` is
    the attempt in doubt of the same output that this one did not wait for; empty: it waited.
    """

    id: str
    ordinal: int
    purpose: Purpose
    output_index: int
    model: str
    account: str
    state: AttemptState
    created_at: datetime
    price: str
    input_hash: str
    prediction_id: str = ""
    reason: str = ""
    cost: Cost | None = None
    completed_at: datetime | None = None
    sent_at: datetime | None = None
    charged: ChargeBasis | None = None
    api_error_at: datetime | None = None
    beside: str = ""


class QueuePosition(Struct, frozen=True):
    """Where something waits in the queue for the account's rate, from 1, and until when.

    `seconds` are those from now to then.
    """

    position: int
    expected_at: datetime
    seconds: float


class RunEstimate(Struct, frozen=True):
    """When a run is expected to end, by how long earlier ones of its model took: half of them, and
    nine in ten, would have ended by then.
    """

    median: datetime
    p90: datetime


class StepResult(Struct, frozen=True, omit_defaults=True):
    """How one of several lanes of a generation ended: a screening, or one of its outputs."""

    purpose: Purpose
    output_index: int
    state: State
    output: Output | None = None
    usage: Usage | None = None
    verdict: Verdict | None = None
    failure: Failure | None = None
    logs: str = ""


class MissingOutput(Struct, frozen=True):
    """An output that was asked for and is not there, and why."""

    index: int
    failure: Failure


class Generation(Struct, frozen=True, omit_defaults=True):
    """One paid call and all that came of it.

    `substitution` says why another model stands in for the one asked for; empty: it is that one.
    `choice` is the receipt, as the catalog wrote it, where no model was asked for.
    `verdict` is on the prompt, or what was asked for. `parameters` is the parameter report as the
    catalog wrote it. `shape` is how the output is to be read, likewise. Times are aware, in UTC.
    `version` counts the changes, from 1. `stop` says why its end was asked for, in one of our own
    words; empty: it was not. `parts` are the ends of its lanes, where it has several; `missing`
    says which outputs of a success are not there. `calls_back`: somebody is to be told of its end.
    `erased_at`: since when nothing is left of what it was asked and what it made. `place` is put in
    where it is shown while it waits, and `progress` (0 to 1) while it runs; they are never stored.
    `logs_document` is all of the logs where `logs` is not. `run_estimate` is made when its run
    begins, and stays as it is: an expected end that moves away with time says nothing.
    `token_limit` is the most output tokens that its model might write.
    """

    id: str
    version: int
    tenant: str
    request_id: str
    method: str
    fingerprint: str
    modality: str
    state: State
    requested_model: str
    model: str
    parameters: tuple[Mapping[str, str], ...]
    shape: Mapping[str, str]
    created_at: datetime
    deadline_at: datetime
    cost: Cost
    sandbox: bool
    attempts: tuple[Attempt, ...]
    seed: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    started_at: datetime | None = None
    completed_at: datetime | None = None
    output: Output | None = None
    usage: Usage | None = None
    verdict: Verdict | None = None
    substitution: str = ""
    choice: Mapping[str, Any] | None = None
    failure: Failure | None = None
    logs: str = ""
    stop: str = ""
    parts: tuple[StepResult, ...] = ()
    missing: tuple[MissingOutput, ...] = ()
    place: QueuePosition | None = None
    calls_back: bool = False
    erased_at: datetime | None = None
    logs_document: StoredMedia | None = None
    run_estimate: RunEstimate | None = None
    progress: float | None = None
    token_limit: int | None = None

    @property
    def run_seconds(self) -> float | None:
        """How long a success has run, from its start to the end of its last attempt."""
        ends = [
            one.completed_at
            for one in self.attempts
            if one.completed_at and one.purpose is Purpose.GENERATE
        ]
        if self.state is not State.SUCCEEDED or self.started_at is None or not ends:
            return None
        return (max(ends) - self.started_at).total_seconds()

    @property
    def in_doubt(self) -> bool:
        """Whether an attempt of it is in doubt still, though it may be over."""
        return any(attempt.state is AttemptState.UNCONFIRMED for attempt in self.attempts)

    @property
    def attempt(self) -> Attempt:
        """The newest attempt."""
        return self.attempts[-1]


class LedgerEntryKind(StrEnum):
    """What an entry does. An attempt has one RESERVE and then one SETTLE or one RELEASE."""

    RESERVE = "reserve"
    SETTLE = "settle"
    RELEASE = "release"


class LedgerEntry(Struct, frozen=True):
    """One line of the append-only ledger, never changed; (attempt, kind) is its key.

    `amount_nanos` is the most that may be spent (RESERVE) or what was spent (SETTLE, RELEASE), in
    nano-dollars; None: unknown, which no sum may take for zero. `price_as_of` is the date of the
    price that was held.
    """

    attempt_id: str
    kind: LedgerEntryKind
    amount_nanos: int | None
    state: CostState
    price_as_of: str

    def __post_init__(self) -> None:
        if (self.amount_nanos is None) != (self.state is CostState.UNKNOWN):
            raise ValueError("an amount is unknown exactly where its state says so")
        if self.amount_nanos is not None and self.amount_nanos < 0:
            raise ValueError("an amount is never negative")


class RequestBinding(Struct, frozen=True):
    """An existing binding of a request_id."""

    generation_id: str
    fingerprint: str


class GenerationFilter(Struct, frozen=True):
    """Which generations to list. Empty fields match all."""

    states: tuple[State, ...] = ()
    models: tuple[str, ...] = ()
    modality: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None


class ListPosition(Struct, frozen=True):
    """Where a page of the list ended: the next one goes on below it."""

    created_at: datetime
    id: str


class Checkpoint(Struct, frozen=True):
    """A piece of a text that is being streamed: what came after `start`, up to `sequence`.

    Both count as the contract's `sequence` does. `event_id` is upstream's, to go on from. `piece`
    is the engine's own; the store only keeps it.
    """

    start: int
    sequence: int
    event_id: str
    piece: str


class Resumption(Struct, frozen=True):
    """What a later process needs to go on with a generation: what is still to be sent, if anything,
    and the pieces of its text that were kept, in order, up to the first that is missing.
    """

    pending: bytes | None = None
    checkpoints: tuple[Checkpoint, ...] = ()


class GenerationChange(Struct, frozen=True):
    """A generation as it stands, and the number of its last change, which no other one has."""

    sequence: int
    generation: Generation


class ChangeRange(Struct, frozen=True):
    """Which changes can be followed: all above `oldest`; `newest` is the last there is."""

    oldest: int
    newest: int
