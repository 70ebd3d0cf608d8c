"""Shares of the event loop: who held it for long waits, as long as somebody else is there."""

import asyncio
from dataclasses import dataclass

import pytest

from mediagate_server.runtime.fair_scheduler import (
    BYTE_SECONDS,
    MAX_DEBT,
    MAX_WAIT,
    MESSAGE_SECONDS,
    MIN_CHARGE,
    TENANT_IDLE_SECONDS,
    FairScheduler,
    StreamBandwidth,
)


@dataclass
class FakeMonotonicClock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def share_of_two(clock: FakeMonotonicClock) -> FairScheduler:
    share = FairScheduler(clock)
    share.record_request("a")
    share.record_request("b")
    return share


def test_a_long_step_delays_the_next() -> None:
    share = share_of_two(clock := FakeMonotonicClock())
    share.record_usage("a", 0.01)
    assert share.delay("a") == pytest.approx(MAX_WAIT * 0.01)
    assert share.delay("b") == 0
    clock.now += MAX_WAIT * 0.01
    assert share.delay("a") == 0


def test_short_steps_cause_no_delay() -> None:
    share = share_of_two(FakeMonotonicClock())
    share.record_usage("a", MIN_CHARGE / 2)
    assert share.delay("a") == 0


def test_accumulated_debt_is_bounded() -> None:
    share = share_of_two(FakeMonotonicClock())
    for _ in range(2):
        share.record_usage("a", 0.01)
    assert share.delay("a") == pytest.approx(2 * MAX_WAIT * 0.01)
    share.record_usage("a", 100.0)
    assert share.delay("a") == pytest.approx(MAX_DEBT)


def test_a_single_tenant_is_not_delayed() -> None:
    share = share_of_two(clock := FakeMonotonicClock())
    clock.now += TENANT_IDLE_SECONDS
    share.record_request("a")
    share.record_usage("a", 0.1)
    assert share.delay("a") == 0
    share.record_request("b")
    share.record_usage("a", 0.1)
    assert share.delay("a") > 0


async def test_concurrent_steps_are_serialized() -> None:
    """Each waits for what the one before it has taken, though all of them came at once."""
    share = FairScheduler()
    done: list[int] = []

    async def step(number: int) -> None:
        share.record_request("b")
        await share.acquire("a")
        assert share.delay("a") < 0.001
        done.append(number)
        share.record_usage("a", 0.01)

    await asyncio.gather(*map(step, range(4)))
    assert done == [0, 1, 2, 3]


async def test_short_steps_are_spaced_under_contention() -> None:
    """The clock stands: each adds to what the next one waits for."""
    share = FairScheduler(FakeMonotonicClock())
    share.record_request("a")
    await share.acquire("a", 0.002)
    assert share.delay("a") == 0
    share.record_request("b")
    await share.acquire("a", 0.002)
    assert share.delay("a") == pytest.approx(0.002)
    assert share.delay("b") == 0


def test_waiting_callers_count_as_active() -> None:
    """A reader of a stream makes no requests, and feels the loop most."""
    share = share_of_two(clock := FakeMonotonicClock())
    clock.now += 2 * TENANT_IDLE_SECONDS
    share.record_request("a")
    assert not share.has_other_tenants("a")
    share.is_open_beside = lambda tenant: tenant == "a"
    assert share.has_other_tenants("a")
    assert share.has_other_tenants("b")  # It was "a" that has just called.


def test_the_most_recent_callers_are_known() -> None:
    share = FairScheduler(clock := FakeMonotonicClock())
    for name in ("a", "b", "a", "a"):
        share.record_request(name)
    assert share.has_other_tenants("a")
    clock.now += TENANT_IDLE_SECONDS / 2
    share.record_request("a")
    clock.now += TENANT_IDLE_SECONDS / 2
    assert not share.has_other_tenants("a")
    assert share.has_other_tenants("b")


async def test_stream_bytes_are_spaced_under_contention() -> None:
    """A little passes at once; then a tenant's streams wait for what passed before, together."""
    share = share_of_two(clock := FakeMonotonicClock())
    transfer, second = StreamBandwidth(share, "a"), StreamBandwidth(share, "a")
    small = round(MIN_CHARGE / BYTE_SECONDS / 8)
    assert not any(transfer.add(small) for _ in range(4))
    large = round(0.1 / BYTE_SECONDS)
    assert transfer.add(large)
    await transfer.turn()
    assert share.delay("a streams") == pytest.approx(0.1, rel=0.1)
    assert second.add(large)
    assert not share.delay("a")  # The same tenant's calls do not wait for it,
    assert not share.delay("b")  # nor does anybody else.
    clock.now += 0.2
    assert not share.delay("a streams")


async def test_stream_bytes_pass_at_once_without_contention() -> None:
    share = share_of_two(clock := FakeMonotonicClock())
    clock.now += 2 * TENANT_IDLE_SECONDS
    transfer = StreamBandwidth(share, "a")
    assert transfer.add(round(10 / BYTE_SECONDS))
    await transfer.turn()
    assert not share.delay("a streams")


def test_small_messages_count_too() -> None:
    transfer = StreamBandwidth(share_of_two(FakeMonotonicClock()), "a")
    most = round(MIN_CHARGE / MESSAGE_SECONDS)
    assert [transfer.add(0) for _ in range(most + 1)].index(True) in (most - 1, most)


async def test_queues_of_one_tenant_are_independent() -> None:
    """Its calls are not behind its thousand files."""
    share = share_of_two(FakeMonotonicClock())
    await share.acquire("a", 0.5, queue="outputs")
    assert share.delay("a outputs") == pytest.approx(0.5)
    await share.acquire("a", 0.1)
    assert share.delay("a") == pytest.approx(0.1)
    assert share.delay("a outputs") == pytest.approx(0.5)
