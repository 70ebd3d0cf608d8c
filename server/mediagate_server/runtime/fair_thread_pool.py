"""Thread pool with fair queueing: what one tenant has waiting for a thread holds up nobody else's.

The event loop's default executor is one queue for everybody: files that are read, written, hashed
and synced. A tenant with a hundred reads under way would be ahead of everybody's upload.
"""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from mediagate_server.context import caller

THREADS: Final = 8
TENANT_SHARE: Final = 6
"""Threads that one tenant may have: a disk that is slow for it leaves some to the others."""

P = ParamSpec("P")
T = TypeVar("T")
_Job = tuple[Future[Any], Callable[[], Any]]


class FairThreadPool(ThreadPoolExecutor):
    """Takes from one tenant after the other; within a tenant first come, first served.

    A job is the current tenant's, see `caller.tenant`; what is nobody's is the gate's own, which
    counts as one more tenant. Every job that was submitted is done, also after `shutdown`.
    """

    def __init__(self, threads: int = THREADS, most_of_one: int = TENANT_SHARE) -> None:
        super().__init__(threads, thread_name_prefix="work")
        self._most_of_one = most_of_one
        self._turn = threading.Lock()
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._running: Counter[str] = Counter()
        self._left = 0
        """Jobs of tenants who had all their threads: done by those as they become free."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Queue a job, behind those of the same tenant. RuntimeError after `shutdown`."""
        job: _Job = Future(), partial(fn, *args, **kwargs)
        tenant = caller.current_tenant()
        with self._turn:
            # One thread is asked for with each job, and each does the job whose turn it is then.
            super().submit(self._work)
            self._waiting.setdefault(tenant, deque()).append(job)
        return job[0]

    def _work(self) -> None:
        with self._turn:
            found = self._next()
            if found is None:
                self._left += 1
        while found is not None:
            tenant, (future, function) = found
            if future.set_running_or_notify_cancel():
                _run(future, function)
            del future, function
            with self._turn:
                self._running[tenant] -= 1
                found = self._next() if self._left else None
                if found is not None:
                    self._left -= 1

    def _next(self) -> tuple[str, _Job] | None:
        """The next job, taken out; None where all that wait are of tenants who have their most."""
        for tenant, jobs in self._waiting.items():
            if self._running[tenant] < self._most_of_one:
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
