"""Threads for blocking work: however much one tenant has waiting, the next one's is done soon."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from random import Random

import pytest

from mediagate_server import rpc_context
from mediagate_server.runtime.fair_thread_pool import FairThreadPool

PATIENCE = 30.0


@pytest.fixture
def pool() -> Iterator[FairThreadPool]:
    """One of four threads, of which one tenant has three at most."""
    with FairThreadPool(threads=4, tenant_share=3) as pool:
        yield pool


def submit(pool: FairThreadPool, tenant: str, work: Callable[[], object]) -> Future[object]:
    """A job of a tenant's, as the event loop submits it: in the context of whoever calls."""

    def in_context() -> Future[object]:
        rpc_context.bind_caller(rpc_context.Caller(tenant))
        return pool.submit(work)

    return copy_context().run(in_context)


def test_one_tenant_does_not_block_others(pool: FairThreadPool) -> None:
    """A hundred jobs of one that hang leave a thread to the other's."""
    go_on = threading.Event()
    try:
        hung = [submit(pool, "hostile", go_on.wait) for _ in range(100)]
        assert submit(pool, "other", lambda: 1).result(PATIENCE) == 1
        assert submit(pool, "third", lambda: 2).result(PATIENCE) == 2
        assert not any(future.done() for future in hung)
    finally:
        go_on.set()
    assert [future.result(PATIENCE) for future in hung] == [True] * 100


def test_tenants_take_turns() -> None:
    """With one thread: the second tenant's job is next but one, not behind all of the first's."""
    done: list[str] = []
    with FairThreadPool(threads=1, tenant_share=1) as pool:
        begun, go_on = threading.Event(), threading.Event()

        def block() -> None:
            begun.set()
            go_on.wait(PATIENCE)

        submit(pool, "a", block)
        assert begun.wait(PATIENCE)
        for name in ("a1", "a2", "a3", "b1", "b2"):
            submit(pool, name[0], partial(done.append, name))
        go_on.set()
    assert done == ["a1", "b1", "a2", "b2", "a3"]


def test_failed_and_cancelled_jobs_free_their_thread(pool: FairThreadPool) -> None:
    """What a job raises goes to whoever waits; what was cancelled before its turn is not done."""
    go_on = threading.Event()

    def fail() -> None:
        raise LookupError("so")

    futures = [submit(pool, "a", go_on.wait) for _ in range(3)]
    waiting = submit(pool, "a", fail)
    given_up = submit(pool, "a", fail)
    assert given_up.cancel()
    go_on.set()
    with pytest.raises(LookupError, match="so"):
        waiting.result(PATIENCE)
    assert all(future.result(PATIENCE) for future in futures)
    assert submit(pool, "a", lambda: 3).result(PATIENCE) == 3


def test_closing_finishes_every_job(seed: int) -> None:
    """Jobs of many tenants, in any order: each is done exactly once, also after `shutdown`."""
    print(f"seed {seed}")
    random, lock = Random(seed), threading.Lock()
    done: list[int] = []

    def work(number: int) -> None:
        with lock:
            done.append(number)

    pool = FairThreadPool(threads=3, tenant_share=random.randint(1, 3))
    for number in range(2_000):
        submit(pool, random.choice("abcdefg"), partial(work, number))
    pool.shutdown()
    assert sorted(done) == list(range(2_000))
    with pytest.raises(RuntimeError):
        submit(pool, "a", lambda: None)
