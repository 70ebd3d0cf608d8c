"""The account's rate: never above the limit in any minute, in order, and silent while held."""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.upstream.policies.rate_limiter import RateLimiter

Virtually = Callable[[Coroutine[Any, Any, Any]], Any]


def now() -> float:
    return asyncio.get_running_loop().time()


async def turns(rate: RateLimiter, arrivals: list[float]) -> list[float]:
    """When each of those who arrive (seconds from now) gets its turn, in order of arrival."""

    async def acquire_at(at: float) -> float:
        await asyncio.sleep(at)
        await rate.acquire()
        return now()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(acquire_at(at)) for at in sorted(arrivals)]
    return [task.result() for task in tasks]


def try_acquire(rate: RateLimiter) -> bool:
    """Use a slot if there is one now and nobody waits."""
    if (slot := rate.try_reserve()) is None:
        return False
    slot.use()
    return True


def most_in_a_minute(moments: list[float]) -> int:
    """The fullest 60 seconds; a hair less, as clocks are floats."""
    moments = sorted(moments)
    return max(
        bisect_left(moments, start + 60 - 1e-6) - position for position, start in enumerate(moments)
    )


@pytest.mark.parametrize(
    ("per_minute", "burst"), [(600, 30), (3_000, 150), (60, 3), (6, 1), (1, 1)]
)
def test_many_waiters_get_exactly_the_configured_rate(
    run_on_virtual_loop: Virtually, per_minute: int, burst: int
) -> None:
    """All at once: a burst, then a steady drip; no minute holds more than the limit."""
    rate = RateLimiter(per_minute)
    assert rate.burst == burst
    start, crowd = 1_000.0, per_minute * 2 + burst
    moments = run_on_virtual_loop(turns(rate, [0.0] * crowd))
    assert sum(moment < start + 0.01 for moment in moments) == burst
    assert most_in_a_minute(moments) <= per_minute
    steady = (per_minute - burst + 1) / 60
    assert moments[-1] == pytest.approx(start + (crowd - burst) / steady, abs=0.1)


@given(
    st.integers(1, 80),
    st.lists(st.integers(0, 2_000), min_size=1, max_size=120, unique=True),
    st.lists(st.tuples(st.floats(0, 200), st.floats(0, 30)), max_size=3),
)
def test_no_minute_exceeds_the_limit(
    run_on_virtual_loop: Virtually,
    per_minute: int,
    tenths: list[int],
    pauses: list[tuple[float, float]],
) -> None:
    """Whoever comes when, waiting or not, with holds in between; turns come in order."""
    rate = RateLimiter(per_minute)
    arrivals = [tenth / 10 for tenth in tenths]
    acquired: list[float] = []
    paused: list[tuple[float, float]] = []

    async def pause(at: float, seconds: float) -> None:
        await asyncio.sleep(at)
        rate.pause(seconds)
        paused.append((now(), now() + seconds))

    async def hasty(at: float) -> None:
        await asyncio.sleep(at)
        if try_acquire(rate):
            acquired.append(now())

    async def main() -> list[float]:
        async with asyncio.TaskGroup() as group:
            for each in pauses:
                group.create_task(pause(*each))
            for at in arrivals[::3]:
                group.create_task(hasty(at))
            patient = group.create_task(turns(rate, arrivals))
        return patient.result()

    waited = run_on_virtual_loop(main())
    assert waited == sorted(waited)
    moments = waited + acquired
    assert most_in_a_minute(moments) <= per_minute
    for start, end in paused:
        assert not any(start < moment < end - 1e-6 for moment in moments)


def test_try_reserve_does_not_overtake_waiters(run_on_virtual_loop: Virtually) -> None:
    """`try_reserve` never takes a turn that somebody waits for."""

    async def main() -> None:
        rate = RateLimiter(6)
        assert try_acquire(rate)
        assert not try_acquire(rate)
        waiting = [asyncio.create_task(rate.acquire()) for _ in range(3)]
        while not all(task.done() for task in waiting):
            assert not try_acquire(rate)
            await asyncio.sleep(1)
        assert [task.result() for task in waiting] == pytest.approx([10, 20, 30], abs=0.01)
        await asyncio.sleep(10)
        assert try_acquire(rate)

        late = asyncio.create_task(rate.acquire())
        await asyncio.sleep(1)
        # The process was stalled: there is a turn, but who waits for it has not woken yet.
        asyncio.get_running_loop().moment += 60  # type: ignore[attr-defined]
        assert not try_acquire(rate)
        await late

    run_on_virtual_loop(main())


def test_a_cancelled_waiter_uses_no_turn(run_on_virtual_loop: Virtually) -> None:
    """Cancelled while it waited: the next in line moves up."""

    async def main() -> None:
        rate = RateLimiter(6)
        await rate.acquire()
        gone, next_call = asyncio.create_task(rate.acquire()), asyncio.create_task(rate.acquire())
        await asyncio.sleep(5)
        gone.cancel()
        assert await next_call == pytest.approx(10, abs=0.01)
        assert gone.cancelled()

    run_on_virtual_loop(main())


def test_there_is_no_burst_after_a_hold(run_on_virtual_loop: Virtually) -> None:
    """Upstream met its limit: no burst at once when the hold is over, and none for a minute."""

    async def main() -> None:
        rate = RateLimiter(600)
        rate.pause(5)
        assert not try_acquire(rate)
        moments = await turns(rate, [0.0] * 100)
        assert moments[0] == pytest.approx(1_005, abs=0.01)
        assert min(b - a for a, b in pairwise(moments)) == pytest.approx(0.1, abs=0.001)
        await asyncio.sleep(120)
        first, *_, last = await turns(rate, [0.0] * 30)
        assert last - first < 0.01

    run_on_virtual_loop(main())


def test_a_hold_applies_to_waiters(run_on_virtual_loop: Virtually) -> None:
    """Their turn would have come in its midst."""

    async def main() -> None:
        rate = RateLimiter(6)
        await rate.acquire()
        waiting = asyncio.create_task(rate.acquire())
        await asyncio.sleep(5)
        rate.pause(20)
        assert await waiting == pytest.approx(25, abs=0.01)

    run_on_virtual_loop(main())


def test_a_shorter_hold_does_not_replace_a_longer_one(run_on_virtual_loop: Virtually) -> None:
    """The longest that upstream told counts."""

    async def main() -> None:
        rate = RateLimiter(600)
        rate.pause(20)
        rate.pause(1)
        assert await rate.acquire() == pytest.approx(20, abs=0.01)

    run_on_virtual_loop(main())


def test_an_urgent_request_goes_first_and_is_counted(run_on_virtual_loop: Virtually) -> None:
    """A crowd waits for a minute and more; one that goes first waits for about one turn."""

    async def crowd() -> tuple[float, list[float]]:
        rate = RateLimiter(60)
        started = now()
        waiting = asyncio.create_task(turns(rate, [0.0] * 120))
        await asyncio.sleep(10)
        waited = await rate.acquire_first()
        return waited, [started + 10 + waited, *await waiting]

    waited, moments = run_on_virtual_loop(crowd())
    assert waited <= 2 * 60 / 58
    assert most_in_a_minute(moments) <= 60


@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.floats(0, 150), st.floats(0, 8), st.booleans()), max_size=80),
    st.lists(st.integers(0, 1_500), min_size=1, max_size=60, unique=True),
)
def test_released_reservations_neither_add_nor_lose_turns(
    run_on_virtual_loop: Virtually,
    per_minute: int,
    hostile: list[tuple[float, float, bool]],
    tenths: list[int],
) -> None:
    """Turns that are held for a while and given back, or used late: no minute holds more than the
    limit, and once none is held all is as if those given back had never been there.
    """
    used: list[float] = []

    async def doomed(rate: RateLimiter, at: float, paused: float, *, sends: bool) -> None:
        await asyncio.sleep(at)
        if (turn := rate.try_reserve()) is None:
            return
        await asyncio.sleep(paused)
        if sends:
            turn.use()
            used.append(now())
        turn.release()

    async def patient(rate: RateLimiter, at: float) -> None:
        await asyncio.sleep(at)
        turn = await rate.reserve()
        turn.use()
        used.append(now())

    async def main() -> None:
        rate = RateLimiter(per_minute)
        async with asyncio.TaskGroup() as group:
            for at, paused, sends in hostile:
                group.create_task(doomed(rate, at, paused, sends=sends))
            for tenth in tenths:
                group.create_task(patient(rate, tenth / 10))
        twin = RateLimiter(per_minute)
        for moment in sorted(used):  # Only what was sent.
            twin._bucket.add(moment)
        assert rate._reserved == 0
        assert rate._bucket._arrival == pytest.approx(twin._bucket._arrival)

    run_on_virtual_loop(main())
    assert most_in_a_minute(used) <= per_minute


def test_reserving_and_releasing_starves_nobody(run_on_virtual_loop: Virtually) -> None:
    """A thousand a second reserve and give back: whoever sends gets the whole rate, in order."""

    async def main() -> list[float]:
        rate = RateLimiter(60)

        async def hostile() -> None:
            while True:
                turn = rate.try_reserve()
                await asyncio.sleep(0.004)
                if turn is not None:
                    turn.release()

        tasks = [asyncio.create_task(hostile()) for _ in range(4)]
        moments = await turns(rate, [0.0] * 100)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return moments

    moments = run_on_virtual_loop(main())
    assert most_in_a_minute(moments) <= 60
    assert moments[-1] - moments[0] == pytest.approx(97 / (58 / 60), abs=0.5)


def test_a_dropped_reservation_is_released(run_on_virtual_loop: Virtually) -> None:
    """Whoever held it is gone, by a bug or a cancel."""

    async def main() -> None:
        rate = RateLimiter(6)
        turn = rate.try_reserve()
        assert turn
        waiting = asyncio.create_task(rate.acquire())
        await asyncio.sleep(1)
        assert not waiting.done()
        del turn
        assert await waiting == pytest.approx(1, abs=0.01)

    run_on_virtual_loop(main())
