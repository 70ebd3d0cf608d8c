"""Protocols between a step and the run that it belongs to."""

from typing import Protocol

from msgspec import Struct

from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.pricing.prices import PriceSchedule
from mediagate_server.errors import Failure
from mediagate_server.generations.execution.attached_callers import AttachedCallers
from mediagate_server.generations.execution.versioned_record import VersionedRecord
from mediagate_server.generations.streaming.stream_reader import StreamReader
from mediagate_server.generations.transitions.attempts import StepKey
from mediagate_server.runtime.cancellation import CancelToken
from mediagate_server.store.records import Attempt, LedgerEntry
from mediagate_server.upstream.port import Prediction


class PredictionEnd(Struct, frozen=True):
    """How a prediction ended. None: upstream lost it. `is_complete`: its stream came to its end.

    `out_of_time`: it was cancelled because its share of the timeout was over.
    """

    prediction: Prediction | None
    is_complete: bool
    out_of_time: bool = False


class StepHost(Protocol):
    """The generation that a step belongs to."""

    saved: VersionedRecord
    stop: CancelToken
    callers: AttachedCallers
    draining: bool

    @property
    def quarantine(self) -> Failure | None:
        """Why it ends without what it made; None: it is in no quarantine."""
        ...

    @property
    def is_output_skipped(self) -> bool:
        """Whether nothing of its predictions is to be read any more."""
        ...

    def seconds_left(self) -> float:
        """Until its timeout is over; may be negative."""
        ...

    def reader(self, key: StepKey) -> StreamReader | None:
        """What reads this step's stream; None where it has none."""
        ...

    def reset_error_count(self) -> None:
        """An answer about any of its predictions, which is no end, did no harm."""
        ...

    def progress(self, key: StepKey, prediction: Prediction) -> None:
        """An answer about a step's prediction, that is no end."""
        ...

    def progress_of(self, key: StepKey) -> float | None:
        """How far a step's run says that it is, 0 to 1; None: it says nothing."""
        ...

    @property
    def is_watched(self) -> bool:
        """Whether somebody watches each change, and waits for the next."""
        ...

    @property
    def after_content_refusal(self) -> bool:
        """Whether another model is tried also where one refuses the content."""
        ...

    @property
    def next_when_unconfirmed(self) -> bool:
        """Whether another model is sent while it is in doubt whether the first was taken."""
        ...

    @property
    def has_streamed(self) -> bool:
        """Whether callers have got something of what is made: then nobody takes over."""
        ...

    def may_have_streamed(self, end: Prediction) -> bool:
        """The same of a prediction that failed, if need be from an earlier process.

        That may have streamed a little more than its checkpoints have.
        """
        ...

    async def wait_for_screening(self, key: StepKey) -> None:
        """Until the screening, if there is one, has let this step pass, or has ended it."""
        ...

    async def settle(
        self, attempt: Attempt, end: PredictionEnd, price: PriceSchedule | None
    ) -> None:
        """The attempt's prediction is at its end: settle it, durably.

        `price` is the schedule it was reserved by, where this process still has it.
        """
        ...

    async def fail_unsubmitted(
        self, key: StepKey, closed: Attempt, released: LedgerEntry, failure: Failure
    ) -> None:
        """The step ends with an attempt that upstream never took."""
        ...


class WebhookReceiver(Protocol):
    """A step as those see it who hear from upstream."""

    def on_webhook(self, attempt_id: str, prediction_id: str) -> bool:
        """Upstream says which prediction an attempt is. False where that is of no use."""
        ...

    async def wait_until_recorded(self) -> None:
        """Until it is durable which prediction an attempt in doubt is, where that is known.

        Or that it was none: see `was_never_accepted`.
        """
        ...

    def was_never_accepted(self, attempt_id: str) -> bool:
        """Whether this attempt was closed as one that upstream never took."""
        ...

    def plan_of(self, attempt: Attempt) -> Plan | None:
        """What an attempt sends, or sent; None where that is not known any more."""
        ...


class StepRegistry(Protocol):
    """Where steps are found by their attempts."""

    def register(self, attempt_id: str, step: "WebhookReceiver") -> None:
        """An attempt is this step's."""
        ...

    async def claim(self, attempt_id: str, prediction_id: str) -> bool:
        """Whether a prediction is this attempt's from now on: see prediction_claims."""
        ...

    def unclaim(self, attempt_id: str, prediction_id: str) -> None:
        """It is another's after all: see prediction_claims."""
        ...

    def enqueue(self, attempt_id: str, tenant: str, *, again: bool = False) -> None:
        """An attempt waits for the account's rate, behind all of its tenant's that wait already.

        `again`: ahead of them, as one that follows on a 429.
        """
        ...

    def dequeue(self, attempt_id: str) -> None:
        """It waits no more."""
        ...

    def notify(self, tenant: str) -> None:
        """A new version of a generation of this tenant's is durable."""
        ...

    def on_unconfirmed(self) -> None:
        """There is an attempt in doubt."""
        ...
