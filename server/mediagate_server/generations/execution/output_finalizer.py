"""Finalizer of outputs: reads what is large of them, archives them, and ends the generation.

All of it is paid and settled before: the record is FINALIZING.
"""

from typing import Final

from mediagate_server.errors import Failure
from mediagate_server.generations.dependencies import EngineDeps
from mediagate_server.generations.execution.execution_plan import ExecutionPlan
from mediagate_server.generations.execution.large_outputs import (
    LargeOutputReader,
    LargeOutputResult,
    answer_file_size,
)
from mediagate_server.generations.execution.step_protocols import PredictionEnd
from mediagate_server.generations.execution.versioned_record import ApplyChange, VersionedRecord
from mediagate_server.generations.outputs.media_discovery import missing_outputs
from mediagate_server.generations.streaming.checkpoints import STREAMING_METHODS
from mediagate_server.generations.streaming.text_buffer import TextBuffer
from mediagate_server.generations.transitions import attempts, step_results
from mediagate_server.generations.transitions.attempts import StepKey
from mediagate_server.store.records import Attempt, Generation, Output, State, StoredMedia
from mediagate_server.structs import replace

_MAX_PENDING_BYTES: Final = 1024 * 1024
"""Bytes of an answer that may wait on the disk for those of other steps."""


class OutputFinalizer:
    """Of one run. Called again after StoreUnavailable it reads and archives nothing twice.

    `recovered`: an earlier process may have archived some of it.
    """

    __slots__ = ("_answers", "_archived", "_deps", "_plan", "_read", "_recovered", "_saved")

    def __init__(
        self, deps: EngineDeps, saved: VersionedRecord, plan: ExecutionPlan, *, recovered: bool
    ) -> None:
        self._deps = deps
        self._saved = saved
        self._plan = plan
        self._recovered = recovered
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

    async def read_pending(self, text: TextBuffer) -> LargeOutputResult | None:
        """Read what is large of the output; None: nothing is. `text` gets the rest of a text."""
        record = self._saved.current
        if self._read is None and record.output and record.output.pending:
            several = step_results.pending_outputs(record)
            self._read = await (
                self._read_several(record, several) if several else self._read_one(record, text)
            )
            self._answers.clear()
        return self._read

    async def _read_one(self, record: Generation, text: TextBuffer) -> LargeOutputResult:
        answer = next(iter(self._answers.values()), None)
        reader = LargeOutputReader(
            self._deps,
            record,
            text,
            clean=answer is not None and answer.is_complete,
            streams=record.method in STREAMING_METHODS,
        )
        return await reader.read(answer.prediction if answer else None)

    async def _read_several(
        self, record: Generation, pending: dict[int, Attempt]
    ) -> LargeOutputResult:
        """One after the other."""
        media = list(record.output.media) if record.output else []
        for index, attempt in pending.items():
            answer = self._answers.get(attempts.step_key(attempt))
            plan = self._plan.plan_of(attempt)
            reader = LargeOutputReader(
                self._deps,
                step_results.isolate_step(self._saved.current, attempt, plan),
                TextBuffer(),
                clean=True,
                streams=False,
                first_index=index,
            )
            read = await reader.read(answer.prediction if answer else None)
            media[index] = step_results.late_medium(read.output, read.failure)
        return LargeOutputResult(output=Output(media=tuple(media)))

    async def finish(self) -> None:
        """Archive the output and end the generation, durably; as FAILED where it is lost."""
        record, read = self._saved.current, self._read
        if read is not None:
            if read.failure is not None:
                await self.discard(read.failure)
                return
            record = replace(
                record,
                output=read.output,
                logs_document=read.logs_document,
                missing=missing_outputs(record, read.output),
            )
        if self._archived is None and record.output:
            ends = [attempt.completed_at for attempt in record.attempts if attempt.completed_at]
            self._archived = await self._deps.archiver.archive(
                record.id,
                record.output.media,
                max(ends, default=self._deps.clock.now()),
                may_exist=self._recovered,
            )
        output = replace(record.output or Output(), media=self._archived or ())
        now = self._deps.clock.now()
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

    async def discard(self, failure: Failure) -> None:
        """End the generation as FAILED, durably: its output is lost, or does harm."""
        now = self._deps.clock.now()
        await self._commit(
            lambda current: replace(
                current, state=State.FAILED, failure=failure, output=None, completed_at=now
            )
        )

    async def _commit(self, change: ApplyChange) -> None:
        await self._saved.commit("keep", change)
