"""Worker processes: what hangs, grows or dies within one is over in time, and harms nobody else."""

import asyncio
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mediagate_server.workers.worker_pool import (
    MIB,
    JobOutOfMemory,
    JobTimeout,
    QueueFull,
    Task,
    TaskFailed,
    WorkerCrashed,
    WorkerError,
    WorkerPool,
)

HERE = Path(__file__).parent
LONG = 30.0


def task(name: str, memory: int = 256 * MIB) -> Task:
    return Task(f"hostile_tasks:{name}", memory)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


@pytest.fixture
def open_files() -> Iterator[None]:
    """Asserts that a test leaves as many open files behind as there were."""
    before = sorted(Path("/proc/self/fd").iterdir())
    yield
    assert sorted(Path("/proc/self/fd").iterdir()) == before


@pytest.fixture
async def workers() -> AsyncIterator[WorkerPool]:
    async with WorkerPool() as pool:
        yield pool


async def pid_of(workers: WorkerPool, tenant: str = "") -> int:
    return int(await workers.run(task("pid"), b"", seconds=LONG, tenant=tenant))


async def until_gone(pid: int) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(process, gone.set)
    try:
        await gone.wait()
    finally:
        asyncio.get_running_loop().remove_reader(process)
        os.close(process)


async def test_a_worker_is_reused(workers: WorkerPool) -> None:
    first = await pid_of(workers)
    assert await workers.run(task("echo"), b"", seconds=LONG) == b""
    assert await workers.run(task("echo"), b"\0\xff", seconds=LONG) == b"\0\xff"
    assert await pid_of(workers) == first != os.getpid()


@pytest.mark.parametrize("size", [1, 65_535, 2 * MIB + 1, 48 * MIB])
async def test_payloads_and_results_of_any_size_arrive_whole(
    workers: WorkerPool, size: int
) -> None:
    payload = random.randbytes(size)
    digest = await workers.run(task("digest"), payload, seconds=LONG)
    assert digest == hashlib.sha256(payload).digest()
    assert await workers.run(task("echo"), payload, seconds=LONG) == payload


@pytest.mark.parametrize("name", ["never_end", "never_end_in_c"])
async def test_an_endless_task_is_killed(workers: WorkerPool, name: str) -> None:
    pid = await pid_of(workers)
    with pytest.raises(JobTimeout):
        await workers.run(task(name), b"", seconds=0.2)
    await until_gone(pid)
    assert await pid_of(workers) != pid


async def test_the_limit_counts_cpu_time(workers: WorkerPool) -> None:
    """A machine that stands still for a while says nothing of what a job needs."""
    pid = await pid_of(workers)
    assert await workers.run(task("wait"), b"0.5", seconds=0.2) == b""
    assert await workers.run(task("echo"), b"on", seconds=0.2) == b"on"
    assert await pid_of(workers) == pid


async def test_a_stopped_worker_continues(workers: WorkerPool) -> None:
    pid = await pid_of(workers)
    os.kill(pid, signal.SIGSTOP)
    running = asyncio.create_task(workers.run(task("echo"), b"on", seconds=0.2))
    done, _ = await asyncio.wait((running,), timeout=0.5)
    os.kill(pid, signal.SIGCONT)
    assert not done
    assert await running == b"on"


async def test_a_sleeping_task_is_killed(workers: WorkerPool) -> None:
    pid = await pid_of(workers)
    with pytest.raises(JobTimeout):
        await workers.run(task("wait"), b"1000", seconds=0.02)
    await until_gone(pid)


async def test_a_result_is_accepted_after_the_parent_was_paused(
    workers: WorkerPool,
) -> None:
    """However much time has passed here at once, it is a part of what a job has."""
    await pid_of(workers)
    running = asyncio.create_task(workers.run(task("wait"), b"0.1", seconds=0.02))
    await asyncio.sleep(0)
    time.sleep(0.5)  # noqa: ASYNC251 - that is the point
    assert await running == b""


async def test_a_task_over_the_memory_limit_is_killed(workers: WorkerPool) -> None:
    pid = await pid_of(workers)
    with pytest.raises(JobOutOfMemory):
        await workers.run(task("eat", 64 * MIB), b"1000000", seconds=LONG)
    await until_gone(pid)


async def test_a_worker_that_stays_large_is_replaced(workers: WorkerPool) -> None:
    pid = await pid_of(workers)
    assert await workers.run(task("retain", 512 * MIB), b"100000", seconds=LONG) == b"100000"
    await until_gone(pid)


async def test_a_crashed_worker_is_reported(workers: WorkerPool) -> None:
    with pytest.raises(WorkerCrashed):
        await workers.run(task("die"), b"", seconds=LONG)
    assert await workers.run(task("echo"), b"on", seconds=LONG) == b"on"


async def test_an_idle_worker_that_was_killed_is_replaced(workers: WorkerPool) -> None:
    pid = await pid_of(workers)
    os.kill(pid, signal.SIGKILL)
    await until_gone(pid)
    assert await pid_of(workers) != pid


async def test_an_exception_is_reported_without_its_message(
    workers: WorkerPool,
) -> None:
    pid = await pid_of(workers)
    with pytest.raises(TaskFailed, match=r"^LookupError at hostile_tasks.py:\d+$"):
        await workers.run(task("fail"), b"a prompt", seconds=LONG)
    assert await pid_of(workers) == pid


async def test_a_worker_gets_no_secrets(
    workers: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_secret")
    monkeypatch.setenv("MEDIAGATE_WEBHOOK_SECRETS", "secret")
    names = (await workers.run(task("environment"), b"", seconds=LONG)).decode().split()
    assert "PATH" in names
    assert not [name for name in names if "TOKEN" in name or name.startswith("MEDIAGATE")]


async def test_a_worker_inherits_no_socket(workers: WorkerPool) -> None:
    """The port of a server that was killed would else be taken when the next one starts."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        ours = f"socket:[{os.fstat(listening.fileno()).st_ino}]"
        open_paths = (await workers.run(task("open_files"), b"", seconds=LONG)).decode().split("\n")
    assert len(open_paths) > 2  # Its job's socket, and the two that nobody reads.
    assert ours not in open_paths


async def test_a_worker_imports_little(workers: WorkerPool) -> None:
    names = (await workers.run(task("modules"), b"", seconds=LONG)).decode().split()
    roots = {name.partition(".")[0] for name in names}
    assert not roots & {"aiohttp", "asyncio", "grpc", "pydantic", "replicate", "structlog"}


async def test_a_cancelled_caller_frees_its_slot(workers: WorkerPool) -> None:
    pid = await pid_of(workers, "a")
    waiting = [
        asyncio.create_task(workers.run(task("never_end"), b"", seconds=LONG, tenant="a"))
        for _ in range(3)
    ]
    await asyncio.sleep(0)
    for run in waiting:
        run.cancel()
    assert [type(run) for run in await asyncio.gather(*waiting, return_exceptions=True)] == (
        [asyncio.CancelledError] * 3
    )
    await until_gone(pid)
    assert await workers.run(task("echo"), b"on", seconds=LONG, tenant="a") == b"on"


async def test_one_tenant_never_takes_all_workers(workers: WorkerPool) -> None:
    hostile = [
        asyncio.create_task(workers.run(task("never_end"), b"", seconds=LONG, tenant="hostile"))
        for _ in range(20)
    ]
    await asyncio.sleep(0)
    for _ in range(20):
        assert await workers.run(task("echo"), b"on", seconds=LONG, tenant="usual") == b"on"
    for run in hostile:
        run.cancel()
    await asyncio.gather(*hostile, return_exceptions=True)


async def test_tenants_take_turns() -> None:
    done: list[str] = []

    async def run(tenant: str) -> None:
        await pool.run(task("echo"), b"", seconds=LONG, tenant=tenant)
        done.append(tenant)

    async with WorkerPool(1) as pool:
        await pid_of(pool)
        await asyncio.gather(*(run(tenant) for tenant in "aaaaaabbc"))
    assert done == list("aabcabaaa")


async def test_a_tenants_queue_is_bounded(workers: WorkerPool) -> None:
    async def run(number: int) -> bytes:
        payload = str(number).encode()
        return await workers.run(
            task("echo"), payload, seconds=LONG, tenant="hostile", max_waiting=4
        )

    results = await asyncio.gather(*map(run, range(10)), return_exceptions=True)
    assert results[:5] == [str(number).encode() for number in range(5)]
    assert [type(result) for result in results[5:]] == [QueueFull] * 5
    assert await run(10) == b"10"


async def test_closing_leaves_nothing_open(open_files: None) -> None:
    async with WorkerPool() as pool:
        pid = await pid_of(pool)
        running = asyncio.create_task(pool.run(task("never_end"), b"", seconds=LONG))
        for name in ("die", "never_end", "fail"):
            with pytest.raises(WorkerError):
                await pool.run(task(name), b"", seconds=0.2, tenant="another")
    with pytest.raises(WorkerCrashed):
        await running
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await asyncio.sleep(0)  # The event loop closes what was aborted.


PARENT = """
import asyncio, sys
from mediagate_server.workers.worker_pool import Task, WorkerPool

async def main():
    async with WorkerPool() as workers:
        pids = await asyncio.gather(*(
            workers.run(Task("hostile_tasks:pid"), b"", seconds=30, tenant=tenant)
            for tenant in "ab"
        ))
        print(*map(bytes.decode, pids), flush=True)
        await workers.run(Task("hostile_tasks:" + sys.argv[1]), b"", seconds=30, tenant="a")

asyncio.run(main())
"""


@pytest.mark.parametrize("name", ["never_end", "never_end_in_c"])
async def test_workers_end_with_a_parent_that_was_killed(name: str) -> None:
    with subprocess.Popen(  # noqa: ASYNC220 - it is the parent that is to die
        [sys.executable, "-c", PARENT, name], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    assert pids
    for pid in pids:
        await until_gone(pid)
