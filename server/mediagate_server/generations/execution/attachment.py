"""Attachment of one rpc to a generation, for as long as the rpc lasts."""

from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol, Self

from mediagate_server.errors import (
    DeadlineExceeded,
    InternalError,
    MediagateError,
    ServerDraining,
    StoredFailure,
    StreamExpired,
    StreamInterrupted,
    SubmitUnconfirmed,
)
from mediagate_server.generations.execution.generation_run import GenerationRun
from mediagate_server.generations.queue_positions import PositionListener, QueuePositions
from mediagate_server.generations.streaming.text_buffer import TextChunk
from mediagate_server.generations.streaming.text_publisher import TextPublisher
from mediagate_server.generations.submission_request import Submission
from mediagate_server.generations.transitions.attempts import was_never_accepted
from mediagate_server.runtime.clock import Clock
from mediagate_server.store.records import Generation, State


class TextSink(Protocol):
    """A caller to whom a text is streamed; `sequence` is what it has of it already."""

    @property
    def sequence(self) -> int:
        """Bytes."""
        ...

    def write_status(self, record: Generation, *, polled: bool) -> Awaitable[None]:
        """The state of the generation. `polled`: its text may not be streamed before its end."""
        ...

    def write_text(self, chunk: TextChunk) -> Coroutine[Any, Any, None]:
        """A piece, from the sequence on that the one before it reached."""
        ...


class Attachment:
    """An async context manager: leaving it by an exception that is not an answer is leaving."""

    def __init__(
        self,
        run: GenerationRun,
        clock: Clock,
        placed: Callable[[Generation], Generation],
        queue: QueuePositions,
        submission: Submission,
        *,
        replayed: bool,
    ) -> None:
        self._run = run
        self._clock = clock
        self._placed = placed
        self._queue = queue
        # Not all of it is to be held for as long as the rpc lasts.
        self._cancel_on_leaving = submission.cancel_on_disconnect
        self._grace = submission.grace
        self.replayed = replayed

    @property
    def record(self) -> Generation:
        """The generation as it stands; while it waits, with its place in the queue."""
        return self._placed(self._run.with_activity(self._run.record))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._run.is_draining or isinstance(error, ServerDraining):
            self._run.callers.detach_draining()
        elif error is None or isinstance(error, MediagateError):
            self._run.callers.detach_answered()
        else:
            self.disconnect()

    def disconnect(self) -> None:
        """The rpc ended without an answer."""
        if self._run.is_draining:
            self._run.callers.detach_draining()
            return
        self._run.callers.disconnect(cancel=self._cancel_on_leaving, grace=self._grace)

    async def wait(self, seconds: float | None) -> Generation:
        """The generation once it is over, or as it stands after `seconds` (None: no bound).

        Raises the failure of a generation that upstream never took: nothing is bound then.
        """
        await wait_for_end(self._run, self._clock, seconds)
        if was_never_accepted(self.record) and self.record.failure:
            raise StoredFailure(self.record.failure)
        return self.record

    async def stream(self, listener: TextSink) -> None:
        """Report its state, whenever that changes before the text begins; then stream the text.

        Returns once a success is reported in full; raises what ended it otherwise.
        """
        run, after = self._run, listener.sequence
        if self.record.erased_at:
            raise StreamExpired("the text was erased", metadata={"id": self.record.id})
        await self._stream_status(listener, after)
        if await self._stream_stored_text(listener):
            self._raise_unless_complete()
            return
        with TextPublisher(
            run.text.buffer, after, listener.write_text, run.changed.notify
        ) as publisher:
            while not (publisher.has_failed or self._is_over()):
                await run.changed.wait(run.changed.count)
            await publisher.flush()
            streamed_more = await self._stream_stored_text(listener)
            self._raise_unless_complete()
            if not streamed_more:
                publisher.check_reached()

    async def _stream_status(self, listener: TextSink, after: int) -> None:
        """Report its state, whenever that changes, until there is text or nothing more to come."""
        run = self._run
        reported: tuple[State, int, bool, int | None] | None = None
        position_listener: PositionListener | None = None
        try:
            while not (run.text.sequence > after or self._is_over()):
                seen = run.changed.count
                polled = run.text.is_polled
                record = self.record
                if record.queue_position and position_listener is None:
                    position_listener = PositionListener(run.attempt_ids, run.changed.notify)
                    self._queue.watch(position_listener)
                position = (
                    position_listener.position
                    if position_listener and record.queue_position
                    else None
                )
                status = (record.state, record.attempt.ordinal, polled, position)
                if reported != status:
                    reported = status
                    await listener.write_status(record, polled=polled)
                elif run.text.sequence:
                    break
                else:
                    await run.changed.wait(seen)
        finally:
            if position_listener:
                self._queue.unwatch(position_listener)

    async def _stream_stored_text(self, listener: TextSink) -> bool:
        """Stream what is archived of a long text, and was never here. False: there is nothing."""
        stored = self._run.stored_text(listener.sequence)
        if stored is None:
            return False
        async for chunk in stored:
            await listener.write_text(chunk)
        return True

    def _is_over(self) -> bool:
        """Whether nothing more is to be waited for, whatever the reason."""
        run = self._run
        return run.is_over or run.is_draining or run.callers_should_return

    def _raise_unless_complete(self) -> None:
        """What a stream ends with, after all its text."""
        if not self._run.is_over:
            if self._run.is_draining:
                raise draining_error(self.record)
            raise_if_unconfirmed(self.record)
            raise DeadlineExceeded("the timeout was over before the end")
        if self._run.text.is_broken:
            raise StreamInterrupted(
                "what was sent cannot be continued; the generation has the whole text",
                metadata={"id": self.record.id},
            )
        raise_unless_succeeded(self.record)


async def wait_for_end(run: GenerationRun, clock: Clock, seconds: float | None) -> None:
    """Until the generation is over, or `seconds` have passed, or waiting is of no use any more.

    Raises Draining when this process goes.
    """
    passed = False

    def pass_by() -> None:
        nonlocal passed
        passed = True
        run.changed.notify()

    timer = None if seconds is None else clock.call_later(seconds, pass_by)
    try:
        while not run.is_over and not passed and not run.callers_should_return:
            seen = run.changed.count
            if run.is_draining:
                raise draining_error(run.record)
            await run.changed.wait(seen)
    finally:
        if timer:
            timer.cancel()


def raise_if_unconfirmed(record: Generation) -> None:
    """How a stream ends that waited for a create in doubt as long as it could."""
    if record.state is State.UNCONFIRMED:
        raise SubmitUnconfirmed(
            "whether upstream took the request is not known yet",
            metadata={"id": record.id},
            retry_after=30.0,
        )


def raise_unless_succeeded(record: Generation) -> None:
    """How a stream ends that did not succeed."""
    raise_if_unconfirmed(record)
    if record.failure and record.state is not State.SUCCEEDED:
        raise StoredFailure(record.failure)
    if not record.state.is_terminal:
        raise InternalError  # It is not there any more: erased while its run restarted.


def draining_error(record: Generation | None = None) -> ServerDraining:
    """This process is going; another carries on with the generation, if the call has one."""
    if record is None:
        return ServerDraining.of()
    return ServerDraining.of(request_id=record.request_id, generation_id=record.id)
