"""One caller's hold on a run, for as long as its rpc lives."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from mediagate_server.errors import (
    DeadlinePassed,
    Draining,
    MediagateError,
    StoredFailure,
    StreamInterrupted,
    SubmitUnconfirmed,
)
from mediagate_server.generations.run import Run
from mediagate_server.generations.submission import Submission
from mediagate_server.generations.text_buffer import Chunk
from mediagate_server.store.records import AttemptState, Generation, State


class Attachment:
    """An async context manager: leaving it by an exception that is not an answer is leaving."""

    def __init__(self, run: Run, submission: Submission, *, replayed: bool) -> None:
        self._run = run
        self._submission = submission
        self.replayed = replayed

    @property
    def record(self) -> Generation:
        """The generation as it stands."""
        return self._run.record

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, MediagateError):
            self._run.callers.answered()
        else:
            self.left()

    def left(self) -> None:
        """The rpc ended without an answer."""
        self._run.callers.leave(
            cancel=self._submission.cancel_on_leaving, grace=self._submission.grace
        )

    async def until_settled(self, seconds: float | None) -> Generation:
        """The generation once it is over, or as it stands after `seconds` (None: no bound).

        Raises the failure of a generation that upstream never took: nothing is bound then.
        """
        await wait_for_end(self._run, seconds)
        if never_taken(self.record) and self.record.failure:
            raise StoredFailure(self.record.failure)
        return self.record

    async def events(self, after: int) -> AsyncIterator[Generation | Chunk]:
        """How it stands, whenever that changes before the first chunk; then the text after `after`.

        Ends after the last chunk of a success; raises what ended it otherwise.
        """
        reader = self._run.text.reader(after)
        told: tuple[State, int] | None = None
        while True:
            changed = self._run.changed
            while chunk := reader.read():
                yield chunk
                told = (State.RUNNING, 0)
            if self._run.over:
                break
            if self._run.draining:
                raise draining()
            if self._run.overdue:
                raise DeadlinePassed("the timeout was over before the end")
            standing = (self.record.state, self.record.attempt.ordinal)
            if told is None or (told != standing and told[1]):
                told = standing
                yield self.record
                continue
            await changed.wait()
        if self._run.text_is_broken:
            raise StreamInterrupted(
                "what was sent cannot be continued; the generation has the whole text",
                metadata={"id": self.record.id},
            )
        raise_unless_succeeded(self.record)
        reader.check_reached()


async def wait_for_end(run: Run, seconds: float | None) -> None:
    """Until the run is over, or `seconds` have passed. Raises Draining when this process goes."""
    try:
        async with asyncio.timeout(seconds):
            while not run.over:
                changed = run.changed
                if run.draining:
                    raise draining()
                await changed.wait()
    except TimeoutError:
        return


def never_taken(record: Generation) -> bool:
    """True where upstream took no attempt: callers get the status, and nothing is bound."""
    return record.state is State.FAILED and all(
        attempt.state is AttemptState.REFUSED for attempt in record.attempts
    )


def raise_unless_succeeded(record: Generation) -> None:
    """How a stream ends that did not succeed."""
    if record.state is State.UNCONFIRMED:
        raise SubmitUnconfirmed(
            "whether upstream took the request is not known yet",
            metadata={"id": record.id},
            retry_after=30.0,
        )
    if record.failure and record.state is not State.SUCCEEDED:
        raise StoredFailure(record.failure)


def draining() -> Draining:
    """This process is going; another carries on."""
    return Draining("the gate is shutting down; send the same request again", retry_after=1.0)
