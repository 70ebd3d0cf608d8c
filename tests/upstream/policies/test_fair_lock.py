"""The lock that goes round: no tenant waits behind all that another has waiting."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.upstream.policies.fair_lock import FairLock
from mediagate_server.upstream.policies.rate_limiter import RateLimiter

Virtually = Callable[[Coroutine[Any, Any, Any]], Any]


async def order_of(*tenants: str) -> list[str]:
    """In which order those get it who come in this one, all while it is held."""
    lock, got = FairLock(), []

    async def acquire_once(number: int, tenant: str) -> None:
        async with lock.acquire(tenant):
            got.append(f"{tenant}{number}")

    async with lock.acquire("first"):
        tasks = [asyncio.create_task(acquire_once(*each)) for each in enumerate(tenants)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return got


async def test_the_lock_goes_round_robin_over_tenants() -> None:
    """In turn, and within a tenant by the time of coming."""
    assert await order_of(*"aaaab") == ["a0", "b4", "a1", "a2", "a3"]
    assert await order_of(*"aabbcc") == ["a0", "b2", "c4", "a1", "b3", "c5"]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers())
def test_cancelled_waiters_are_skipped(
    run_on_virtual_loop: Virtually, tenants: list[str], n: int
) -> None:
    """Whenever that is: one holds it at a time, all others get it, and in the end it is free."""
    random = Random(n)
    holders: set[int] = set()
    order_by_tenant: defaultdict[str, list[int]] = defaultdict(list)

    async def main() -> None:
        lock = FairLock()

        async def acquire_once(number: int, tenant: str) -> None:
            async with lock.acquire(tenant):
                assert not holders
                holders.add(number)
                try:
                    await asyncio.sleep(random.choice((0, 0, 1)))
                finally:
                    holders.remove(number)
                order_by_tenant[tenant].append(number)

        tasks = [asyncio.create_task(acquire_once(*each)) for each in enumerate(tenants)]
        gone = [task for task in tasks if random.random() < 0.4]
        for task in gone:
            for _ in range(random.choice((0, 1, 2, 3))):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(map(len, order_by_tenant.values())) == sum(
            not task.cancelled() for task in tasks
        )
        async with asyncio.timeout(1), lock.acquire("last"):
            pass

    run_on_virtual_loop(main())
    assert all(numbers == sorted(numbers) for numbers in order_by_tenant.values())


def test_one_tenants_queue_does_not_delay_another(run_on_virtual_loop: Virtually) -> None:
    """Five hundred of one tenant wait for the account's rate; one of another waits for two."""

    async def main() -> None:
        rate = RateLimiter(600)
        crowd = [asyncio.create_task(rate.acquire("hostile")) for _ in range(500)]
        await asyncio.sleep(5)
        assert await rate.acquire("working") < 0.3
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)

    run_on_virtual_loop(main())
