"""Supervisor of the tasks of this process: runs of generations and background jobs."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import structlog

from mediagate_server import rpc_context
from mediagate_server.errors import StaleOwner
from mediagate_server.generations.active_generations import ActiveGenerations
from mediagate_server.generations.dependencies import EngineDeps
from mediagate_server.generations.execution import execution_plan, quarantine
from mediagate_server.generations.execution.execution_plan import ExecutionPlan
from mediagate_server.generations.execution.generation_run import GenerationRun
from mediagate_server.observability import metrics
from mediagate_server.observability.bug_report import BackgroundJob
from mediagate_server.rpc_context import Caller
from mediagate_server.runtime import crash_marks
from mediagate_server.runtime.crash_marks import CrashMark
from mediagate_server.runtime.tasks import restart_until_done
from mediagate_server.store.records import Generation, Resumption
from mediagate_server.workers.system_errors import is_system_error

_READ_AT_ONCE: Final = 100
"""Unfinished generations whose plans and checkpoints are read together."""
_BEGUN_AT_ONCE: Final = 50
_BEGIN_PAUSE: Final = 0.5
"""Recovered generations that go on at once, and the seconds until as many more do."""

_log = structlog.get_logger()


class Supervisor:
    """Task group of the engine, an async context manager: on exit all are cancelled."""

    def __init__(self, deps: EngineDeps, registry: ActiveGenerations) -> None:
        self._deps = deps
        self._registry = registry
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)

    def start_task(self, doing: Coroutine[Any, Any, None]) -> None:
        """Do it in a task of its own. What it raises would end everything: it is not to."""
        task = self._group.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def supervise(self, job: BackgroundJob, act: Callable[[], Awaitable[None]]) -> None:
        """The same for a job that is restarted where a bug ends it."""
        self.start_task(restart_until_done(job, act, self._deps.clock, self._deps.store.lost))

    async def recover(self) -> None:
        """Take up what an earlier process left, from wherever each generation stands."""
        store, marks = self._deps.store, self._deps.crash_marks
        unfinished = await store.list_unfinished()
        if marks:
            marks.retain([record.id for record in unfinished])
        runs: list[GenerationRun] = []
        for first in range(0, len(unfinished), _READ_AT_ONCE):
            page = unfinished[first : first + _READ_AT_ONCE]
            stored = await store.resumptions([record.id for record in page])
            runs += (self._recovered(record, stored[record.id]) for record in page)
        # All are known before the first caller may ask for one. They do not all go on at once: each
        # asks upstream how it stands, and new calls would wait behind thousands of such questions.
        for run in runs[:_BEGUN_AT_ONCE]:
            self.start_task(self.run_generation(run))
        if rest := runs[_BEGUN_AT_ONCE:]:
            self.start_task(self._start_recovered(rest))

    def _recovered(self, record: Generation, stored: Resumption) -> GenerationRun:
        plan = _read_plan(record.id, stored.pending)
        run = GenerationRun(self._deps, self._registry.process, record, plan, recovered=True)
        marks = self._deps.crash_marks
        if marks and (level := quarantine.level_after_crashes(marks.crash_count(record.id))):
            run.quarantine.raise_to(level, quarantine.MAX_CRASHES)
        run.text.checkpoints.restore(stored.checkpoints)
        self._registry.add(run)
        return run

    async def _start_recovered(self, runs: Sequence[GenerationRun]) -> None:
        """The oldest first."""
        for first in range(0, len(runs), _BEGUN_AT_ONCE):
            await self._deps.clock.sleep(_BEGIN_PAUSE)
            for run in runs[first : first + _BEGUN_AT_ONCE]:
                self.start_task(self.run_generation(run))

    async def run_generation(self, run: GenerationRun) -> None:
        """Run it, with metrics. After a bug it goes on from what is stored."""
        rpc_context.bind_caller(Caller(run.record.tenant))
        gauge = metrics.generations_in_flight.labels(run.record.modality)
        gauge.inc()
        marks = self._deps.crash_marks
        handling = marks.mark(run.record.id) if marks else CrashMark(None, run.record.id)
        crash_marks.CURRENT_MARK.set(handling)
        lost, go_on = self._deps.store.lost, partial(self._run_once, run, handling)
        try:
            await restart_until_done(
                BackgroundJob.GENERATION, go_on, self._deps.clock, lost, run.record.id
            )
            if not run.is_over:
                run.drain()
            elif marks:
                marks.forget(run.record.id)
        finally:
            gauge.dec()
            self._registry.remove(run)
            run.close()

    async def _run_once(self, run: GenerationRun, handling: CrashMark) -> None:
        """As it was created, at first: it may have the right to send, which is not stored.

        Later as another process would: what may have been sent is in doubt, never sent again.
        """
        try:
            if run.has_begun and not await self._restart(run):
                return
            handling.skips_output = bool(run.quarantine.level)
            await run.run()
        except StaleOwner:
            raise
        except Exception as error:
            if is_system_error(error):
                raise  # As after any other: the same again later, whose fault it is not.
            run.quarantine.raise_to(
                quarantine.level_after_errors(run.count_error()), quarantine.MAX_ERRORS
            )
            raise

    async def _restart(self, run: GenerationRun) -> bool:
        """From what is stored. False: nothing is."""
        known = run.record
        record = await self._deps.store.get(known.tenant, known.id)
        if record is None:
            run.reject()
            return False
        plan = await self._load_pending_plan(known.id)
        self._registry.process.claims.release_unrecorded(record.attempts)
        run.restart_from(record, plan)
        return True

    async def _load_pending_plan(self, generation_id: str) -> ExecutionPlan:
        """What an earlier process had still to send, as far as that can be read."""
        return _read_plan(generation_id, await self._deps.store.pending_input(generation_id))


def _read_plan(generation_id: str, pending: bytes | None) -> ExecutionPlan:
    try:
        return execution_plan.load_plan(pending) if pending else execution_plan.EMPTY_PLAN
    except ValueError as error:
        _log.error("pending_input_unreadable", id=generation_id, error=str(error))
        return execution_plan.EMPTY_PLAN
