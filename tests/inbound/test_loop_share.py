"""Shares of the event loop: who held it for long waits, as long as somebody else is there."""

import asyncio
from dataclasses import dataclass

import pytest

from mediagate_server.loop_share import (
    BYTE_SECONDS,
    LEAST,
    MESSAGE_SECONDS,
    MOST,
    PAUSE,
    PRESENT,
    LoopShare,
    Transfer,
)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def share_of_two(clock: Clock) -> LoopShare:
    share = LoopShare(clock)
    share.see("a")
    share.see("b")
    return share


def test_a_long_step_is_waited_for() -> None:
    share = share_of_two(clock := Clock())
    share.charge("a", 0.01)
    assert share.delay("a") == pytest.approx(PAUSE * 0.01)
    assert share.delay("b") == 0
    clock.now += PAUSE * 0.01
    assert share.delay("a") == 0


def test_short_steps_are_free() -> None:
    share = share_of_two(Clock())
    share.charge("a", LEAST / 2)
    assert share.delay("a") == 0


def test_steps_add_up_to_a_bound() -> None:
    share = share_of_two(Clock())
    for _ in range(2):
        share.charge("a", 0.01)
    assert share.delay("a") == pytest.approx(2 * PAUSE * 0.01)
    share.charge("a", 100.0)
    assert share.delay("a") == pytest.approx(MOST)


def test_nobody_is_charged_alone() -> None:
    share = share_of_two(clock := Clock())
    clock.now += PRESENT
    share.see("a")
    share.charge("a", 0.1)
    assert share.delay("a") == 0
    share.see("b")
    share.charge("a", 0.1)
    assert share.delay("a") > 0


async def test_turns_are_taken_one_after_the_other() -> None:
    """Each waits for what the one before it has taken, though all of them came at once."""
    share = LoopShare()
    done: list[int] = []

    async def step(number: int) -> None:
        share.see("b")
        await share.turn("a")
        assert share.delay("a") < 0.001
        done.append(number)
        share.charge("a", 0.01)

    await asyncio.gather(*map(step, range(4)))
    assert done == [0, 1, 2, 3]


async def test_short_steps_are_apart_while_others_are_there() -> None:
    """The clock stands: each adds to what the next one waits for."""
    share = LoopShare(Clock())
    share.see("a")
    await share.turn("a", 0.002)
    assert share.delay("a") == 0
    share.see("b")
    await share.turn("a", 0.002)
    assert share.delay("a") == pytest.approx(0.002)
    assert share.delay("b") == 0


def test_whoever_waits_for_an_answer_is_there() -> None:
    """A reader of a stream makes no requests, and feels the loop most."""
    share = share_of_two(clock := Clock())
    clock.now += 2 * PRESENT
    share.see("a")
    assert not share.others_than("a")
    share.is_open_beside = lambda tenant: tenant == "a"
    assert share.others_than("a")
    assert share.others_than("b")  # It was "a" that has just called.


def test_who_called_last_and_who_before() -> None:
    share = LoopShare(clock := Clock())
    for name in ("a", "b", "a", "a"):
        share.see(name)
    assert share.others_than("a")
    clock.now += PRESENT / 2
    share.see("a")
    clock.now += PRESENT / 2
    assert not share.others_than("a")
    assert share.others_than("b")


async def test_bytes_of_a_stream_are_apart_while_others_are_there() -> None:
    """A little passes at once; then a tenant's streams wait for what passed before, together."""
    share = share_of_two(clock := Clock())
    transfer, second = Transfer(share, "a"), Transfer(share, "a")
    small = round(LEAST / BYTE_SECONDS / 8)
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


async def test_bytes_of_a_stream_pass_at_once_where_nobody_else_is() -> None:
    share = share_of_two(clock := Clock())
    clock.now += 2 * PRESENT
    transfer = Transfer(share, "a")
    assert transfer.add(round(10 / BYTE_SECONDS))
    await transfer.turn()
    assert not share.delay("a streams")


def test_messages_count_however_small_they_are() -> None:
    transfer = Transfer(share_of_two(Clock()), "a")
    most = round(LEAST / MESSAGE_SECONDS)
    assert [transfer.add(0) for _ in range(most + 1)].index(True) in (most - 1, most)


async def test_queues_of_one_tenant_wait_apart() -> None:
    """Its calls are not behind its thousand files."""
    share = share_of_two(Clock())
    await share.turn("a", 0.5, queue="outputs")
    assert share.delay("a outputs") == pytest.approx(0.5)
    await share.turn("a", 0.1)
    assert share.delay("a") == pytest.approx(0.1)
    assert share.delay("a outputs") == pytest.approx(0.5)
