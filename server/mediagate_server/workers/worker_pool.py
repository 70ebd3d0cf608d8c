"""Process pool with time and memory limits, for work on untrusted data.

A job that exceeds its limit of CPU time or memory is killed with its worker, which is replaced. A
limit of wall time ends what only sleeps. Workers are fresh interpreters (never forks of a process
with gRPC's threads in it), started when first needed, without the parent's environment and so
without its secrets; they end with their parent, however it ends.

To add a task, write a function `bytes -> bytes` at the top of a module that imports little (a
worker imports that module, and stays that large), and beside its caller a constant
`Task("package.module:function", memory=...)`; then `await workers.run(TASK, payload, seconds=2.0,
tenant=...)`. The payload's form is the task's own. Expect `JobTimeout`, `JobOutOfMemory` and
`WorkerCrashed` (the data's fault, most likely), `TaskFailed` (the function raised: a bug), and
`QueueFull`, `WorkerStartFailed` and `SystemFailure` (a later attempt may succeed). Expected errors
in the data are returned as bytes, not raised.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mediagate_server.observability import metrics
from mediagate_server.workers.worker_main import (
    ANSWER_HEADER,
    DONE,
    JOB_HEADER,
    OUT_OF_MEMORY,
    READY,
    SYSTEM_ERROR,
)

MIB: Final = 1024 * 1024

_START_SECONDS: Final = 30.0
_WALL_TIME_FACTOR: Final = 10
"""Wall time of a job as a multiple of its CPU time."""
_EXIT_POLLS: Final = 100
_MAX_WAITING: Final = 64
"""Maximum waiting jobs per tenant."""
_MAX_IDLE_BYTES: Final = 64 * MIB
"""Memory above which a worker is replaced after a job: it would stay that large."""
_INHERITED_VARIABLES: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
_MAIN: Final = "mediagate_server.workers.worker_main"
_SOURCE_ROOT: Final = Path(__file__).resolve().parents[2]


class WorkerError(Exception):
    """Base class: a job has no result."""


class JobTimeout(WorkerError):
    """The job exceeded its CPU time, or slept for long; its process was killed."""


class WorkerCrashed(WorkerError):
    """The job's process ended while it ran."""


class JobOutOfMemory(WorkerCrashed):
    """The job exceeded its memory limit."""


class TaskFailed(WorkerError):
    """The task's function raised: a bug of ours. The text is its type and location."""


class SystemFailure(WorkerError):
    """A system error of the job, such as a full disk. Nothing is wrong with the job."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class WorkerStartFailed(WorkerError):
    """The system cannot start a worker process now. Nothing is wrong with the job."""


class QueueFull(WorkerError):
    """Too many jobs of this tenant are waiting."""


@dataclass(frozen=True, slots=True)
class Task:
    """A function that workers can run. `memory` is what one job may allocate, in bytes."""

    function: str
    memory: int = 256 * MIB


class WorkerPool:
    """Process pool of at most `size` workers: an async context manager, for one event loop.

    Tenants take turns; and of several workers one tenant never has all, so that nobody waits behind
    a series of jobs that all run into their limit. Jobs that may take long have a pool of their
    own, apart from those that a caller waits for.
    """

    def __init__(self, size: int = 2) -> None:
        self._semaphore = FairSemaphore(size)
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._dying: list[subprocess.Popen[bytes]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in list(self._workers):
            self._kill(worker)
        for process in self._dying:
            process.wait()  # It was sent SIGKILL.
        self._dying.clear()

    async def run(
        self,
        task: Task,
        payload: bytes,
        *,
        seconds: float,
        tenant: str = "",
        max_waiting: int = _MAX_WAITING,
    ) -> bytes:
        """Run one job and return its result. Raises a WorkerError.

        `seconds` are CPU time: neither time in the queue counts nor a busy machine.
        """
        async with self._semaphore.acquire(tenant, max_waiting):
            self._reap()
            worker = self._idle.pop() if self._idle else None
            if worker is None or not worker.is_alive:
                if worker is not None:
                    self._kill(worker)
                worker = await self._start()
            is_reusable = False
            try:
                status, size, result = await worker.run(task, payload, seconds)
                is_reusable = status != OUT_OF_MEMORY and size <= _MAX_IDLE_BYTES
            except TimeoutError:
                metrics.worker_jobs_killed.labels("expired").inc()
                raise JobTimeout from None
            except (EOFError, OSError):
                if await worker.ran_out_of_time():
                    metrics.worker_jobs_killed.labels("expired").inc()
                    raise JobTimeout from None
                metrics.worker_jobs_killed.labels("crashed").inc()
                raise WorkerCrashed from None
            finally:
                if is_reusable:
                    self._idle.append(worker)
                else:
                    self._kill(worker)
        if status == OUT_OF_MEMORY:
            metrics.worker_jobs_killed.labels("out_of_memory").inc()
            raise JobOutOfMemory
        if status == SYSTEM_ERROR:
            raise SystemFailure(int(result))
        if status != DONE:
            raise TaskFailed(result.decode())
        return result

    async def _start(self) -> "_Worker":
        worker = await _Worker.start()
        self._workers.add(worker)
        try:
            await worker.become_ready()
        except BaseException as error:
            self._kill(worker)
            if isinstance(error, TimeoutError | EOFError | OSError):
                raise WorkerStartFailed from None
            raise
        return worker

    def _kill(self, worker: "_Worker") -> None:
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        worker.close()
        self._dying.append(worker.process)
        self._reap()
        if self._dying:
            asyncio.get_running_loop().call_later(0.1, self._reap)

    def _reap(self) -> None:
        """Collect the exit status of killed processes, without waiting."""
        self._dying = [process for process in self._dying if process.poll() is None]


class _Worker:
    """One worker process and its socket."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls) -> Self:
        """Start a fresh interpreter. Not in a thread: it is to end with the thread that made it."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = subprocess.Popen(  # noqa: ASYNC220, S603 - vfork and exec: a few ms
                    [sys.executable, "-P", "-m", _MAIN],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # It could repeat the payload.
                    env=_environment(),
                )
            except OSError as error:
                ours.close()
                raise WorkerStartFailed from error
        ours.setblocking(False)  # noqa: FBT003 - the signature of socket
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MIB)
        except BaseException:
            ours.close()
            process.kill()
            process.wait()
            raise
        return cls(process, reader, writer)

    @property
    def is_alive(self) -> bool:
        """Whether it can take a job."""
        return not self._reader.at_eof() and self.process.poll() is None

    async def become_ready(self) -> None:
        """Wait until the interpreter runs. TimeoutError; EOFError or OSError at its death."""
        async with asyncio.timeout(_START_SECONDS):
            status, _, _ = await self._answer()
        if status != READY:
            raise EOFError

    async def run(self, task: Task, payload: bytes, seconds: float) -> tuple[int, int, bytes]:
        """Run one job: status, resident memory and result. Raises as `become_ready` does."""
        name = task.function.encode()
        header = JOB_HEADER.pack(len(name), seconds, task.memory, len(payload))
        self._writer.writelines((header, name, payload))
        answer = asyncio.ensure_future(self._send_and_receive())
        try:
            # In parts, and not cancelled by them: where this process stood still meanwhile, one
            # part has passed, and what has come in the same moment is an answer.
            for _ in range(_WALL_TIME_FACTOR):
                done, _ = await asyncio.wait((answer,), timeout=seconds)
                if done:
                    return answer.result()
        finally:
            answer.cancel()
        raise TimeoutError

    async def _send_and_receive(self) -> tuple[int, int, bytes]:
        await self._writer.drain()
        return await self._answer()

    async def ran_out_of_time(self) -> bool:
        """Whether the process, whose socket is closed, was killed by its limit of CPU time."""
        for _ in range(_EXIT_POLLS):  # The socket is closed a moment before the status is there.
            if (status := self.process.poll()) is not None:
                return status == -signal.SIGPROF
            await asyncio.sleep(0.01)
        return False

    async def _answer(self) -> tuple[int, int, bytes]:
        status, size, length = ANSWER_HEADER.unpack(
            await self._reader.readexactly(ANSWER_HEADER.size)
        )
        return status, size, await self._reader.readexactly(length)

    def close(self) -> None:
        """Kill the process."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self._writer.transport.abort()


class FairSemaphore:
    """Semaphore with turns by tenant: each holds at most `share`, by default all but one."""

    def __init__(self, size: int, share: int | None = None) -> None:
        self._free = size
        self._share = max(1, size - 1) if share is None else share
        self._acquired: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def acquire(self, tenant: str, max_waiting: int) -> AsyncIterator[None]:
        """Acquire a slot for the block. Raises QueueFull."""
        queue = self._waiting.setdefault(tenant, deque())
        if len(queue) >= max_waiting:
            raise QueueFull
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(waiter)
        self._wake_waiters()
        try:
            await waiter
            yield
        finally:
            # No search in the queue: a hundred thousand may wait there.
            if waiter.done() and not waiter.cancelled():
                self._free += 1
                self._acquired[tenant] -= 1
                if not self._acquired[tenant]:
                    del self._acquired[tenant]
            elif waiter in queue:
                queue.remove(waiter)
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        """Give free slots to the tenants whose turn it is."""
        while self._free and (tenant := self._next_tenant()) is not None:
            waiter = self._waiting[tenant].popleft()
            self._waiting.move_to_end(tenant)
            if not waiter.cancelled():
                waiter.set_result(None)
                self._free -= 1
                self._acquired[tenant] += 1
        for tenant in [tenant for tenant, queue in self._waiting.items() if not queue]:
            del self._waiting[tenant]

    def _next_tenant(self) -> str | None:
        """The tenant who has waited longest for a turn and holds less than its share."""
        for tenant, queue in self._waiting.items():
            if queue and self._acquired[tenant] < self._share:
                return tenant
        return None


def _environment() -> dict[str, str]:
    """A worker's environment: where to find its code, and no secret."""
    inherited = {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}
    paths = [str(_SOURCE_ROOT), os.environ.get("PYTHONPATH", "")]
    return inherited | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
