"""What a lane and the generation that it belongs to know of each other."""

from datetime import datetime
from typing import Protocol

from msgspec import Struct

from mediagate_server.catalog.plan import Plan
from mediagate_server.catalog.prices import PriceSchedule
from mediagate_server.errors import Failure
from mediagate_server.generations.attempts import LaneKey
from mediagate_server.generations.callers import Callers
from mediagate_server.generations.reading import StreamReader
from mediagate_server.generations.saving import SavedRecord
from mediagate_server.generations.stopping import Stop
from mediagate_server.replicate.port import Prediction
from mediagate_server.store.records import Attempt, Entry


class Doubt(Struct, frozen=True):
    """An attempt that was sent: what to look for in upstream's list. `plan` None: not kept.

    `key` is what its input's hash is keyed with. `sent` is when it, and any that it may have been
    exchanged with, were sent: first and last; None: the attempt says so itself.
    """

    attempt: Attempt
    plan: Plan | None
    key: bytes
    sent: tuple[datetime, datetime] | None = None

    @property
    def sent_between(self) -> tuple[datetime, datetime]:
        """When it was sent: the first and the last moment."""
        at = self.attempt.sent_at or self.attempt.created_at
        return self.sent or (at, at)


class End(Struct, frozen=True):
    """How a prediction ended. None: upstream lost it. `clean`: its stream came to its `done`.

    `out_of_time`: its end was asked for because its share of the timeout was over.
    """

    prediction: Prediction | None
    clean: bool
    out_of_time: bool = False


class Whole(Protocol):
    """The generation that a lane belongs to."""

    saved: SavedRecord
    stop: Stop
    callers: Callers
    draining: bool

    @property
    def quarantine(self) -> Failure | None:
        """Why it ends without what it made; None: it is in no quarantine."""
        ...

    @property
    def is_unread(self) -> bool:
        """Whether nothing of its predictions is to be read any more."""
        ...

    def seconds_left(self) -> float:
        """Until its timeout is over; may be negative."""
        ...

    def reader(self, lane: LaneKey) -> StreamReader | None:
        """What reads this lane's stream; None where it has none."""
        ...

    def answered(self) -> None:
        """An answer about any of its predictions, which is no end, did no harm."""
        ...

    def progress(self, lane: LaneKey, prediction: Prediction) -> None:
        """An answer about a lane's prediction, that is no end."""
        ...

    def progress_of(self, lane: LaneKey) -> float | None:
        """How far a lane's run says that it is, 0 to 1; None: it says nothing."""
        ...

    @property
    def is_watched(self) -> bool:
        """Whether somebody is told of each change, and is to be told soon."""
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
    def has_told(self) -> bool:
        """Whether callers have got something of what is made: then nobody takes over."""
        ...

    def may_have_told(self, end: Prediction) -> bool:
        """The same of a prediction that failed, if need be from an earlier process.

        That may have told a little more than it had kept.
        """
        ...

    async def cleared(self, lane: LaneKey) -> None:
        """Until the screening, if there is one, has let this lane pass, or has ended it."""
        ...

    async def settle(self, attempt: Attempt, end: End, price: PriceSchedule | None) -> None:
        """The attempt's prediction is at its end: settle it, durably.

        `price` is the schedule that was held for it, where this process still has it.
        """
        ...

    async def unsent(
        self, lane: LaneKey, closed: Attempt, released: Entry, failure: Failure
    ) -> None:
        """The lane ends with an attempt that upstream never took."""
        ...


class HintTaker(Protocol):
    """A lane as those see it who hear from upstream."""

    def hint(self, attempt_id: str, prediction_id: str) -> bool:
        """Upstream says which prediction an attempt is. False where that is of no use."""
        ...

    async def noted(self) -> None:
        """Until it is durable which prediction an attempt in doubt is, where that was told.

        Or that it was none: see `was_not_taken`.
        """
        ...

    def was_not_taken(self, attempt_id: str) -> bool:
        """Whether this attempt was closed as one that upstream never took."""
        ...

    def plan_of(self, attempt: Attempt) -> Plan | None:
        """What an attempt sends, or sent; None where that is not known any more."""
        ...


class Places(Protocol):
    """Where lanes are found by their attempts."""

    def opened(self, attempt_id: str, lane: "HintTaker") -> None:
        """An attempt is this lane's."""
        ...

    async def claim(self, attempt_id: str, prediction_id: str) -> bool:
        """Whether a prediction is this attempt's from now on: see claims.Claims."""
        ...

    def unclaim(self, attempt_id: str, prediction_id: str) -> None:
        """It is another's after all: see claims.Claims."""
        ...

    def queued(self, attempt_id: str, tenant: str, *, again: bool = False) -> None:
        """An attempt waits for the account's rate, behind all of its tenant's that wait already.

        `again`: ahead of them, as one that follows on a 429.
        """
        ...

    def served(self, attempt_id: str) -> None:
        """It waits no more."""
        ...

    def changed(self, tenant: str) -> None:
        """A new version of a generation of this tenant's is durable."""
        ...

    def doubted(self) -> None:
        """There is an attempt in doubt."""
        ...
