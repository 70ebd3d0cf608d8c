"""Submission of an attempt: its one POST, who may send it, and until when."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.errors import StaleOwner
from mediagate_server.generations.dependencies import MIN_RUN_SECONDS, EngineDeps
from mediagate_server.runtime import failpoints
from mediagate_server.store.records import Attempt
from mediagate_server.upstream.port import (
    CreateRequest,
    CreateReservation,
    NoResponse,
    Prediction,
    RequestRefused,
)

_EVENTS: Final = {False: ("completed",), True: ("start", "completed")}
"""The webhook events that are requested for a run, and for a video's."""
_LEASE_PAUSE: Final = 0.05
_SMALL_MARGIN: Final = 5.0
"""Seconds. Up to here it is for an upstream that lists at once: nothing of it has to be left."""

SubmitResult = Prediction | RequestRefused | NoResponse
"""What a create can end in."""


class Submitter:
    """Sends the attempts of one step, each at most once.

    `may_send` names the attempt that a durable commit of this very process has made SUBMITTING:
    an attempt that another process left in that state may have been sent. `turn` is what it is
    sent in.
    """

    def __init__(self, deps: EngineDeps, may_send: str, turn: CreateReservation | None) -> None:
        self._deps = deps
        self.may_send = may_send
        self.under_way = False
        self._turn = turn

    @contextmanager
    def grant_send_right(self, attempt_id: str, turn: CreateReservation | None) -> Iterator[None]:
        """While the commit is under way that lets an attempt be sent; afterwards it may be.

        Already meanwhile a drain waits for it: between commit and send nothing is to come.
        """
        self.may_send, self._turn = attempt_id, turn
        try:
            yield
        except BaseException:
            self.may_send = ""
            self.release()
            raise

    def release(self) -> None:
        """Nothing is sent after all: the turn is somebody else's."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.release()

    async def wait_for_lease(self) -> None:
        """Until the store is surely ours for as long as sending takes.

        A process that stood still since its commit may have been declared dead, and what it was
        about to send absent: it must not send it then. Raises StaleOwner.
        """
        store = self._deps.store
        while store.lease_left() < self._deps.timeouts.lease_margin:
            if store.lost.happened:
                raise StaleOwner
            await self._deps.clock.wait(store.lost, _LEASE_PAUSE)

    async def send(self, attempt: Attempt, plan: Plan, seconds_left: float) -> SubmitResult:
        """Exactly one POST. `seconds_left` bounds what the run can cost should we lose it."""
        webhook = self._deps.webhook_url(attempt.id)
        request = CreateRequest(
            plan.target,
            plan.input,
            cancel_after=max(seconds_left, MIN_RUN_SECONDS),
            webhook=webhook,
            webhook_events=_EVENTS[plan.modality.value == "video"] if webhook else (),
            # While it waits for a connection this process may stand still as well.
            may_send=lambda: self._deps.store.lease_left() > 0 and self._is_fresh(attempt),
        )
        self.under_way, self.may_send = True, ""
        turn, self._turn = self._turn, None
        failpoints.hit("before_send")
        try:
            return await self._deps.upstream.create(request, model=plan.slug, turn=turn)
        except (RequestRefused, NoResponse) as no:
            return no
        finally:
            failpoints.hit("after_answer")
            self.under_way = False

    def _is_fresh(self, attempt: Attempt) -> bool:
        """Whether it leaves as soon after its commit as those reckon who look for it in the list.

        A disk that hung, or a machine that slept, may have delayed it: made that late, it would
        be found by nobody, declared absent, and paid again.
        """
        margin = self._deps.timeouts.absent_margin
        late = max(margin / 2, min(margin, _SMALL_MARGIN))
        sent = attempt.sent_at or attempt.created_at
        return (self._deps.clock.now() - sent).total_seconds() < late
