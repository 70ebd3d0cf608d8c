"""Thread pool with fair queueing: no tenant waits behind another's queued jobs.

The event loop's default executor has one queue for all file reads, writes, hashes and syncs: a
tenant with a hundred queued reads would be ahead of everybody's upload.
"""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from mediagate_server import rpc_context

THREADS: Final = 8
TENANT_SHARE: Final = 6
"""Threads that one tenant may use, so that its slow disk leaves some to the others."""

P = ParamSpec("P")
T = TypeVar("T")
_Job = tuple[Future[Any], Callable[[], Any]]


class FairThreadPool(ThreadPoolExecutor):
    """Executor that serves tenants round robin; jobs of one tenant run first in, first out.

    A job belongs to the current tenant (`caller.current_tenant`); the server's own jobs count as
    one more tenant. Every submitted job is done, also after `shutdown`.
    """

    def __init__(self, threads: int = THREADS, tenant_share: int = TENANT_SHARE) -> None:
        super().__init__(threads, thread_name_prefix="work")
        self._tenant_share = tenant_share
        self._jobs_lock = threading.Lock()
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._running: Counter[str] = Counter()
        self._postponed = 0
        """Jobs of tenants whose share was used up: done by their threads as these become free."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Queue a job behind those of the same tenant. Raises RuntimeError after `shutdown`."""
        job: _Job = Future(), partial(fn, *args, **kwargs)
        tenant = rpc_context.current_tenant()
        with self._jobs_lock:
            # Each submit asks for one thread, which does the job whose turn it is then.
            super().submit(self._work)
            self._waiting.setdefault(tenant, deque()).append(job)
        return job[0]

    def _work(self) -> None:
        with self._jobs_lock:
            next_job = self._take_job()
            if next_job is None:
                self._postponed += 1
        while next_job is not None:
            tenant, (future, function) = next_job
            if future.set_running_or_notify_cancel():
                _run(future, function)
            del future, function
            with self._jobs_lock:
                self._running[tenant] -= 1
                next_job = self._take_job() if self._postponed else None
                if next_job is not None:
                    self._postponed -= 1

    def _take_job(self) -> tuple[str, _Job] | None:
        """Remove and return the next job; None where all waiting tenants use up their share."""
        for tenant, jobs in self._waiting.items():
            if self._running[tenant] < self._tenant_share:
                job = jobs.popleft()
                if jobs:
                    self._waiting.move_to_end(tenant)
                else:
                    del self._waiting[tenant]
                self._running[tenant] += 1
                return tenant, job
        return None


def _run(future: "Future[Any]", function: Callable[[], Any]) -> None:
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - whoever waits for the future gets it
        future.set_exception(error)
    else:
        future.set_result(result)
