"""All generations that live in this process, and those that are only remembered."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

import structlog

from mediagate_server import ledger, telemetry
from mediagate_server.catalog.plan import Plan
from mediagate_server.errors import (
    GenerationNotFound,
    Internal,
    MediagateError,
    RequestIdReused,
    StoreUnavailable,
)
from mediagate_server.generations.attachment import Attachment, draining, wait_for_end
from mediagate_server.generations.doors import Surroundings
from mediagate_server.generations.run import Run
from mediagate_server.generations.submission import Submission, first_record
from mediagate_server.store.records import Bound, Entry, Filter, Generation, Position, State

_log = structlog.get_logger()
_STORE_PAUSE = 1.0


class Generations:
    """Accepts, finds, cancels and recovers generations. Use it as an async context manager.

    `account` names the upstream account, `sandbox` says that the embedded sandbox answers,
    `max_in_flight` tells how many generations a tenant may run now (0: no limit).
    """

    def __init__(
        self,
        around: Surroundings,
        *,
        account: str,
        sandbox: bool,
        max_in_flight: Callable[[], int],
    ) -> None:
        self._around = around
        self._account = account
        self._sandbox = sandbox
        self._max_in_flight = max_in_flight
        self._runs: dict[str, Run] = {}
        self._tasks = asyncio.TaskGroup()
        self._living: set[asyncio.Task[None]] = set()
        self._draining = False

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        await self._recover()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go: nothing is cancelled upstream, the next process follows on."""
        self.drain()
        await asyncio.gather(*(run.not_sending() for run in list(self._runs.values())))
        for task in self._living:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    def drain(self) -> None:
        """Accept nothing more, and let all who wait go with DRAINING."""
        self._draining = True
        for run in self._runs.values():
            run.draining = True
            run.announce()

    async def start(
        self, submission: Submission, plan: Callable[[], Awaitable[Plan]]
    ) -> Attachment:
        """Bind the request and begin it, or attach to what its request_id is bound to.

        `plan` is asked only for a new one, and may have to read about the model first. Raises any
        MediagateError with nothing bound.
        """
        if self._draining:
            raise draining()
        if bound := await self._around.store.bound(submission.tenant, submission.request_id):
            return await self._attach(submission, bound)
        planned = await plan()
        admitted = self._around.upstream.try_admit(planned.slug)
        record = first_record(
            submission,
            planned,
            now=self._around.clock.now(),
            account=self._account,
            sandbox=self._sandbox,
            queued=not admitted,
        )
        run = Run(self._around, record, planned)
        accepted: asyncio.Future[Bound | MediagateError | None]
        accepted = asyncio.get_running_loop().create_future()
        # Known before it is bound, so that a twin which sees the binding finds the run.
        self._runs[record.id] = run
        run.callers.arrive()
        attachment = Attachment(run, submission, replayed=False)
        self._keep(self._accept(run, ledger.reserve(planned, record.attempt.id), accepted))
        try:
            # A caller that leaves now must not tear the commit from the send.
            outcome = await asyncio.shield(accepted)
        except asyncio.CancelledError:
            attachment.left()
            raise
        if isinstance(outcome, MediagateError):
            raise outcome
        return await self._attach(submission, outcome) if outcome else attachment

    async def get(self, tenant: str, generation_id: str) -> Generation:
        """The generation as it stands. GenerationNotFound also for another tenant's."""
        return (await self._find(tenant, generation_id)).record

    async def list_generations(
        self, tenant: str, wanted: Filter, limit: int, after: Position | None
    ) -> tuple[Generation, ...]:
        """A page of a tenant's generations, newest first."""
        return await self._around.store.list_generations(tenant, wanted, limit, after)

    async def wait(self, tenant: str, generation_id: str, seconds: float | None) -> Generation:
        """The generation once it is over, or as it stands after `seconds`."""
        run = await self._find(tenant, generation_id)
        await wait_for_end(run, seconds)
        return run.record

    async def watch(self, tenant: str, generation_id: str, after: int) -> AsyncIterator[Generation]:
        """The generation at every version above `after`, up to its end."""
        run = await self._find(tenant, generation_id)
        while True:
            changed = run.changed
            if run.record.version > after:
                after = run.record.version
                yield run.record
                continue
            if run.over:
                return
            if run.draining:
                raise draining()
            await changed.wait()

    async def cancel(self, tenant: str, generation_id: str) -> Generation:
        """Ask for the end; the generation as it stands now."""
        run = await self._find(tenant, generation_id)
        run.stop("asked for")
        return run.record

    async def _find(self, tenant: str, generation_id: str) -> Run:
        run = self._runs.get(generation_id)
        if run and run.record.tenant == tenant:
            return run
        record = await self._around.store.get(tenant, generation_id)
        if record is None:
            raise GenerationNotFound(generation_id)
        return Run.remembered(self._around, record)

    async def _attach(self, submission: Submission, bound: Bound) -> Attachment:
        if bound.fingerprint != submission.fingerprint:
            raise RequestIdReused(submission.request_id)
        run = await self._find(submission.tenant, bound.generation_id)
        run.callers.arrive()
        return Attachment(run, submission, replayed=True)

    # Living

    def _keep(self, life: "asyncio._CoroutineLike[None]") -> None:
        task = self._tasks.create_task(life)
        self._living.add(task)
        task.add_done_callback(self._living.discard)

    async def _accept(
        self,
        run: Run,
        reservation: Entry,
        accepted: "asyncio.Future[Bound | MediagateError | None]",
    ) -> None:
        """The commit that binds, then the life; one task, so that no caller can come between."""
        outcome: Bound | MediagateError | None
        try:
            binding = await self._around.store.accept(
                run.record, (reservation,), self._max_in_flight()
            )
            outcome = binding if isinstance(binding, Bound) else None
        except MediagateError as error:
            outcome = error
        if outcome is not None:
            del self._runs[run.record.id]
        if not accepted.done():
            accepted.set_result(outcome)
        if outcome is None:
            await self._live(run)

    async def _live(self, run: Run) -> None:
        """A run's life, told to the metrics; a bug in it ends this run and no other."""
        gauge = telemetry.generations_in_flight.labels(run.record.modality)
        gauge.inc()
        try:
            while not run.over:
                try:
                    await run.live()
                except StoreUnavailable:
                    # What upstream has is safe there; it is settled once the store is back.
                    _log.warning("store unavailable, generation waits", id=run.record.id)
                    await self._around.clock.wait(asyncio.Event(), _STORE_PAUSE)
        except Exception as error:  # noqa: BLE001 - kept from taking the other runs down
            _log.error("generation broke", id=run.record.id, error=type(error).__name__)
            run.broke(Internal().failure)
        finally:
            gauge.dec()
            self._runs.pop(run.record.id, None)

    async def _recover(self) -> None:
        """Take up what an earlier process left: follow what was taken, say what is in doubt."""
        for record in await self._around.store.unfinished():
            if record.state is State.UNCONFIRMED:
                continue
            run = Run(self._around, record)
            self._runs[record.id] = run
            self._keep(self._live(run))
