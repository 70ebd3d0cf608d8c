"""Records of generations, attempts and ledger entries, as frozen structs: no SQL, no protobuf.

One `Generation` is one JSON document: its owner changes it by `structs.replace` and saves it with
the next `version`; a save that is not the next version is refused, so that two owners can never
both write. What is stored under an older name keeps it (`name=`).
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct, field

from mediagate_server.errors import Failure


class State(StrEnum):
    """State of a generation; the words of the contract in lower case."""

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
        """Whether it is one of the three final states."""
        return self in TERMINAL


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


class AttemptState(StrEnum):
    """State of an attempt; the words of the contract in lower case."""

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
    """Certainty of an amount, in the contract's words."""

    ESTIMATED = "estimated"
    SETTLED = "settled"
    UNKNOWN = "unknown"
    ASSUMED = "assumed"


LARGEST_NANOS: Final = 2**63 - 1
"""The largest amount that the store and the contract hold."""


class Cost(Struct, frozen=True):
    """An amount in nano-dollars and its certainty; None is unknown, never zero."""

    nanos: int | None
    state: CostState
    price_date: str = ""


class Usage(Struct, frozen=True, omit_defaults=True):
    """Usage of a run as upstream reported it; None: not reported. Durations in seconds."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_characters: int | None = None
    images: int | None = None
    media_seconds: float | None = None
    run_seconds: float | None = None


class StoredMedia(Struct, frozen=True, omit_defaults=True):
    """One output file. `uri` is upstream's link or a data URI; empty where only our copy is left.

    Facts of the file (`size` in bytes, `seconds` that it plays) are known once it `is_stored`;
    `failure` says why it could not be stored.
    """

    uri: str
    media_type: str
    expires_at: datetime | None = None
    seconds: float | None = None
    size: int | None = None
    sha256: str = ""
    width: int | None = None
    height: int | None = None
    is_stored: bool = field(default=False, name="kept")
    failure: Failure | None = None


class Output(Struct, frozen=True, omit_defaults=True):
    """Output of a generation: a text, or media in the order requested.

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
    """One harm category that a safety model found, by the model's own code."""

    code: str
    name: str


class Verdict(Struct, frozen=True, omit_defaults=True):
    """Verdict of a safety model. `unreadable`: its answer, or a part of it, could not be read;
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
    """What an attempt's charge was computed from: usage, and the row of its price.

    `outputs` is how many media its terminal record held, as far as they were counted. `tier` says
    in words when that row holds; empty: always, or none was found.
    """

    usage: Usage
    outputs: int = 0
    tier: str = ""


class Attempt(Struct, frozen=True, omit_defaults=True):
    """One create request to upstream: the right to send it once, and its outcome.

    `price` is the price list held at submit, as text of the catalog's; `input_hash` is a keyed
    hash of the input sent, to recognise it in upstream's list without keeping it. `sent_at` is the
    time of the commit that precedes the send; None while it waits. `cost` is the reservation, then
    the charge; `charged` is the basis of the charge, once settled on a terminal record.
    `api_error_at` is when upstream's API answered with an error of its own, which leaves the
    attempt unconfirmed. `beside` is the unconfirmed attempt of the same output that this one did
    not wait for; empty: it waited.
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
    """Position in the queue for the account's rate limit, from 1, and the expected start.

    `seconds` are those from now until then.
    """

    position: int
    expected_at: datetime
    seconds: float


class RunEstimate(Struct, frozen=True):
    """Expected end of a run, by the durations of earlier runs of its model: the times by which
    half of them, and nine in ten, would have ended.
    """

    median: datetime
    p90: datetime


class StepOutcome(Struct, frozen=True, omit_defaults=True):
    """Outcome of one step of a generation: a screening, or one of its outputs."""

    purpose: Purpose
    output_index: int
    state: State
    output: Output | None = None
    usage: Usage | None = None
    verdict: Verdict | None = None
    failure: Failure | None = None
    logs: str = ""


class MissingOutput(Struct, frozen=True):
    """A requested output that is missing from a success, and why."""

    index: int
    failure: Failure


class Generation(Struct, frozen=True, omit_defaults=True):
    """One billable call: request, attempts, cost and output.

    `substitution` is the reason why `model` is not `requested_model`; empty: it is. `choice` is
    the record of the model choice, as the catalog wrote it, where no model was requested.
    `verdict` is on the prompt, or the result of a safety call. `parameters` is the parameter report
    and `shape` the form of the output, both as the catalog wrote them. Times are aware, in UTC.
    `version` counts the changes, from 1. `stop` is the reason of a requested cancellation; empty:
    none was requested. `step_outcomes` are those of its steps, where it has several; `missing` are
    outputs of a success that are not there. `sends_webhook`: its end is sent to the caller.
    `erased_at`: since then neither request nor output is left. `queue_position` is set where it is
    shown while it waits, and `progress` (0 to 1) while it runs; they are never stored.
    `logs_document` holds all of the logs where `logs` is only their beginning. `run_estimate` is
    set when its run begins and never changes: an expected end that moves away says nothing.
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
    step_outcomes: tuple[StepOutcome, ...] = field(default=(), name="parts")
    missing: tuple[MissingOutput, ...] = ()
    queue_position: QueuePosition | None = None
    sends_webhook: bool = field(default=False, name="calls_back")
    erased_at: datetime | None = None
    logs_document: StoredMedia | None = None
    run_estimate: RunEstimate | None = None
    progress: float | None = None
    token_limit: int | None = None

    @property
    def run_seconds(self) -> float | None:
        """Run duration of a success: from its start to the end of its last attempt."""
        ends = [
            one.completed_at
            for one in self.attempts
            if one.completed_at and one.purpose is Purpose.GENERATE
        ]
        if self.state is not State.SUCCEEDED or self.started_at is None or not ends:
            return None
        return (max(ends) - self.started_at).total_seconds()

    @property
    def has_unconfirmed_attempt(self) -> bool:
        """Whether one of its attempts is unconfirmed, even where it has ended itself."""
        return any(attempt.state is AttemptState.UNCONFIRMED for attempt in self.attempts)

    @property
    def attempt(self) -> Attempt:
        """The newest attempt."""
        return self.attempts[-1]


class LedgerEntryKind(StrEnum):
    """Kind of a ledger entry. An attempt has one RESERVE and then one SETTLE or one RELEASE."""

    RESERVE = "reserve"
    SETTLE = "settle"
    RELEASE = "release"


class LedgerEntry(Struct, frozen=True):
    """One line of the append-only ledger, never changed; (attempt, kind) is its key.

    `amount_nanos` is the most that may be spent (RESERVE) or what was spent (SETTLE, RELEASE), in
    nano-dollars; None: unknown, which no sum may take for zero. `price_as_of` is the date of the
    price that the attempt was submitted with.
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
    """Idempotency record: the generation that a request_id is bound to."""

    generation_id: str
    fingerprint: str


class GenerationFilter(Struct, frozen=True):
    """Filter of generations. Empty fields match all."""

    states: tuple[State, ...] = ()
    models: tuple[str, ...] = ()
    modality: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None


class ListPosition(Struct, frozen=True):
    """Pagination cursor of generations: the next page begins below it."""

    created_at: datetime
    id: str


class Checkpoint(Struct, frozen=True):
    """Checkpoint of a streamed text: the piece after `start`, up to `sequence`.

    Both count as the contract's `sequence` does. `event_id` is upstream's, to resume from. `piece`
    has the engine's own format, which the store does not read.
    """

    start: int
    sequence: int
    event_id: str
    piece: str


class Resumption(Struct, frozen=True):
    """What a later process needs to resume a generation: the pending input, if it was not sent,
    and the checkpoints of its text, in order, up to the first that is missing.
    """

    pending: bytes | None = None
    checkpoints: tuple[Checkpoint, ...] = ()


class GenerationChange(Struct, frozen=True):
    """A generation as it is now, and the number of its last change, which is unique."""

    sequence: int
    generation: Generation


class ChangeRange(Struct, frozen=True):
    """Numbers of the changes that can be followed: above `oldest`, up to `newest`."""

    oldest: int
    newest: int
