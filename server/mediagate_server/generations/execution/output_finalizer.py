"""Finalizer of outputs: reads what is large of them, archives them, and ends the generation.

All of it is paid and settled before: the record is FINALIZING.
"""

from typing import Final

from mediagate_server.errors import Failure
from mediagate_server.generations.execution.large_output_reader import (
    LargeOutputReader,
    LargeOutputResult,
    answer_file_size,
)
from mediagate_server.generations.execution.run_context import RunContext
from mediagate_server.generations.execution.step_result import PredictionEnd
from mediagate_server.generations.execution.versioned_record import ApplyChange
from mediagate_server.generations.outputs.media_discovery import missing_outputs
from mediagate_server.generations.streaming.checkpoints import STREAMING_METHODS
from mediagate_server.generations.streaming.text_buffer import TextBuffer
from mediagate_server.generations.transitions import attempts, step_results
from mediagate_server.generations.transitions.attempts import StepKey
from mediagate_server.store.records import Generation, Output, State, StoredMedia
from mediagate_server.structs import replace

_MAX_PENDING_BYTES: Final = 1024 * 1024
"""Bytes of an answer that may wait on the disk for those of other steps."""


class OutputFinalizer:
    """Of one run. Called again after StoreUnavailable it reads and archives nothing twice."""

    __slots__ = ("_answers", "_archived", "_context", "_read")

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._answers: dict[StepKey, PredictionEnd] = {}
        self._read: LargeOutputResult | None = None
        self._archived: tuple[StoredMedia, ...] | None = None

    def keep_answer(self, key: StepKey, end: PredictionEnd, *, is_sole: bool) -> None:
        """Keep upstream's answer to a step, of which the output is still to be read.

        Of several steps none waits for another with a large file on the disk: all of a tenant's
        room might be taken by such. They are fetched again, one after the other.
        """
        if is_sole or answer_file_size(end.prediction) <= _MAX_PENDING_BYTES:
            self._answers[key] = end

    async def run(self) -> None:
        """To the end of the generation, durably. Raises StoreUnavailable."""
        if failure := self._context.quarantine_failure:
            await self._fail(failure)
            return
        record = self._context.record.current
        if record.output and record.output.pending:
            self._read = self._read or await self._read_pending(record)
        await self._finish(self._context.record.current)

    async def _read_pending(self, record: Generation) -> LargeOutputResult:
        """What is large of its output; of several, one after the other."""
        is_sole = not step_results.has_several_outputs(record)
        media = list(record.output.media) if record.output else []
        read = LargeOutputResult(output=record.output)
        for index, attempt in step_results.pending_outputs(record).items():
            answer = self._answers.get(attempts.step_key(attempt))
            reader = LargeOutputReader(
                self._context.deps,
                self._context.step_spec(attempt),
                record.output if is_sole else None,
                self._context.text.buffer if is_sole else TextBuffer(),
                clean=not is_sole or (answer is not None and answer.is_complete),
                streams=is_sole and record.method in STREAMING_METHODS,
                first_index=index,
            )
            read = await reader.read(answer.prediction if answer else None)
            if not is_sole:
                media[index] = step_results.late_medium(read.output, read.failure)
        self._answers.clear()
        if not is_sole:
            return LargeOutputResult(output=Output(media=tuple(media)))
        text = self._context.text
        text.is_broken = text.is_broken or read.broken
        text.has_unsent_text = read.has_unsent_text
        return read

    async def _finish(self, record: Generation) -> None:
        """Archive the output and end the generation; as FAILED where it is lost."""
        deps, read = self._context.deps, self._read
        if read is not None:
            if read.failure is not None:
                await self._fail(read.failure)
                return
            record = replace(
                record,
                output=read.output,
                logs_document=read.logs_document,
                missing=missing_outputs(record, read.output),
            )
        if self._archived is None and record.output:
            ends = [attempt.completed_at for attempt in record.attempts if attempt.completed_at]
            self._archived = await deps.archiver.archive(
                record.id,
                record.output.media,
                max(ends, default=deps.clock.now()),
                may_exist=self._context.recovered,
            )
        output = replace(record.output or Output(), media=self._archived or ())
        now = deps.clock.now()
        await self._commit(
            lambda current: replace(
                current,
                state=State.SUCCEEDED,
                output=output,
                completed_at=now,
                logs_document=record.logs_document,
                missing=record.missing,
            )
        )

    async def _fail(self, failure: Failure) -> None:
        """End the generation as FAILED: its output is lost, or does harm."""
        now = self._context.deps.clock.now()
        await self._commit(
            lambda current: replace(
                current, state=State.FAILED, failure=failure, output=None, completed_at=now
            )
        )

    async def _commit(self, change: ApplyChange) -> None:
        await self._context.record.commit("keep", change)
