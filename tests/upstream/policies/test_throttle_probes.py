"""A throttled account: one create at a time is a probe, whoever waits, until one is taken."""

import asyncio
from contextlib import suppress
from itertools import pairwise
from random import Random

import pytest

from mediagate_server.upstream.policies.rate_limiter import RateLimiter
from mediagate_server.upstream.policies.resilient_upstream import ResilientUpstream
from mediagate_server.upstream.policies.throttle_backoff import RateLimitBackoff
from mediagate_server.upstream.port import (
    CreateRequest,
    CreateReservation,
    Prediction,
    RequestRefused,
)
from tests.upstream.policies.scripted_upstream import (
    DOWN,
    NO_RESPONSE,
    PREDICTION,
    REQUEST,
    RunOnVirtualLoop,
    Scripted,
    outbound,
    throttled,
)


def now() -> float:
    return asyncio.get_running_loop().time()


class ThrottledAccount:
    """Refuses creates until a moment, then takes all. An answer takes 0.3 s."""

    def __init__(self, until: float, retry_after: float | None, per_minute: int = 600) -> None:
        self.rate = RateLimiter(per_minute)
        self.opens_at = now() + until
        self.retry_after = retry_after
        self.sent: list[tuple[float, str]] = []

    async def create(self, name: str, tenant: str = "") -> int:
        """The tries until it was taken."""
        again = False
        for number in range(1, 1_000):
            turn = await self.rate.reserve(tenant, again=again)
            turn.use()
            sent_at = now()
            self.sent.append((sent_at, name))
            await asyncio.sleep(0.3)
            turn.release_unused()
            if sent_at >= self.opens_at:
                self.rate.on_accepted(sent_at)
                return number
            self.rate.on_throttled(sent_at, self.retry_after)
            again = True
        raise AssertionError(name)


@pytest.mark.parametrize("retry_after", [None, 0.0, 1.0, 5.0])
def test_many_waiters_send_one_probe_per_wait(
    run_on_virtual_loop: RunOnVirtualLoop, retry_after: float | None
) -> None:
    """However many wait: between the refusals there is one create, and no more after the end."""

    async def main() -> None:
        account = ThrottledAccount(60.0, retry_after)
        first = await account.rate.reserve()
        first.use()
        account.rate.on_throttled(now(), retry_after)
        crowd = [asyncio.create_task(account.create(f"c{n}")) for n in range(50)]
        tries = [await task for task in crowd]
        probes = [at for at, _ in account.sent if at < account.opens_at]
        assert sum(tries) == len(probes) + 50
        assert len(probes) <= 60 / (retry_after or 1)
        assert min(b - a for a, b in pairwise(probes)) >= max(retry_after or 0, 0.25)
        assert now() <= account.opens_at + 20
        # Whoever was refused comes first; the one who waits for the probe's answer may pass it.
        sent_numbers = [int(name[1:]) for at, name in account.sent if at >= account.opens_at]
        assert sent_numbers in (list(range(50)), [1, 0, *range(2, 50)])

    run_on_virtual_loop(main())


def test_a_burst_refused_together_counts_as_one_refusal(
    run_on_virtual_loop: RunOnVirtualLoop,
) -> None:
    """A burst that is refused whole makes the next wait no longer than one refusal does."""

    async def main() -> None:
        account = ThrottledAccount(0.1, None)
        tries = await asyncio.gather(*(account.create(str(n)) for n in range(30)))
        assert set(tries) == {2}
        assert account.sent[30][0] - account.sent[29][0] == pytest.approx(1.3, abs=0.01)

    run_on_virtual_loop(main())


def test_a_throttled_tenant_does_not_delay_others(
    run_on_virtual_loop: RunOnVirtualLoop,
) -> None:
    """After the account opens each tenant is served in turn."""

    async def main() -> None:
        account = ThrottledAccount(10.0, 1.0)
        crowd = [asyncio.create_task(account.create("a", "a")) for _ in range(40)]
        await asyncio.sleep(1)
        await account.create("b", "b")
        order = [name for at, name in account.sent if at >= account.opens_at]
        assert order.index("b") <= 2
        await asyncio.gather(*crowd)

    run_on_virtual_loop(main())


@pytest.mark.parametrize("end", ["released", "dropped"])
def test_an_unsent_probe_blocks_nobody(run_on_virtual_loop: RunOnVirtualLoop, end: str) -> None:
    """Its caller is gone: the next may be the probe."""

    async def main() -> None:
        rate = RateLimiter(600)
        rate.on_throttled(now(), 5.0)
        turn = await rate.reserve(again=True)
        waiting = asyncio.create_task(rate.reserve())
        await asyncio.sleep(1)
        assert not waiting.done()
        assert rate.try_reserve() is None
        if end == "released":
            turn.release()
        del turn
        (await waiting).use()
        rate.on_accepted(now())
        await rate.reserve()

    run_on_virtual_loop(main())


def test_a_cancelled_second_wait_blocks_nobody(
    run_on_virtual_loop: RunOnVirtualLoop,
) -> None:
    """Cancelled in the midst of the wait."""

    async def main() -> None:
        rate = RateLimiter(600)
        rate.on_throttled(now(), 5.0)
        again = asyncio.create_task(rate.reserve(again=True))
        waiting = asyncio.create_task(rate.reserve())
        await asyncio.sleep(1)
        again.cancel()
        await waiting
        assert now() - 1_000 == pytest.approx(5, abs=0.01)

    run_on_virtual_loop(main())


def test_an_earlier_create_does_not_end_the_hold() -> None:
    """It was taken before the bucket was empty: its late answer opens nothing."""
    throttle = RateLimitBackoff()
    throttle.on_throttled(10.0, 11.0, 5.0)
    throttle.on_accepted(10.5)
    assert throttle.is_closed
    assert throttle.seconds_until_open(12.0) == 4.0
    throttle.on_accepted(16.0)
    assert not throttle.is_closed
    assert throttle.seconds_until_open(16.0) == 0.0


def test_insufficient_waits_grow() -> None:
    """Up to 5 s where one is told, up to 10 s where none is: a call may wait for an hour."""
    for retry_after, most in ((0.0, 5.0), (1.0, 5.0), (None, 10.0), (30.0, 30.0)):
        throttle, waits, moment = RateLimitBackoff(), [], 0.0
        for _ in range(12):
            waits.append(throttle.on_throttled(moment, moment, retry_after))
            moment = throttle.open_at
        assert waits == sorted(waits)
        assert waits[-1] == most
        assert waits[0] >= (retry_after or 0)


def test_a_rate_given_by_upstream_is_respected(run_on_virtual_loop: RunOnVirtualLoop) -> None:
    """Six a minute, one at a time: after the first 429 there is no other; later all is tried."""

    async def main() -> None:
        rate = RateLimiter(600)
        rate.on_throttled(now(), 5.0)
        rate.reduce_to(6)
        assert rate.reduced_rate == 6
        moments = []
        for _ in range(12):
            (await rate.reserve()).use()
            moments.append(now())
            rate.on_accepted(now())
        assert moments[0] - 1_000 == pytest.approx(5, abs=0.01)
        assert {round(b - a, 1) for a, b in pairwise(moments)} == {10.5}
        assert rate.backoff_seconds == pytest.approx(10 / 0.95, abs=0.01)
        await asyncio.sleep(300)
        assert rate.reduced_rate is None
        rate.reduce_to(6_000)
        assert rate.reduced_rate is None

    run_on_virtual_loop(main())


class SlowCreateUpstream(Scripted):
    """Answers its creates one after the other as it was told: after so long, in this way."""

    def __init__(self, *answers: tuple[float, RequestRefused | None]) -> None:
        super().__init__()
        self.answers = iter(answers)

    def next_answer(self) -> tuple[float, BaseException | None]:
        return next(self.answers, (0.1, None))

    async def create(
        self, request: CreateRequest, *, model: str = "", turn: CreateReservation | None = None
    ) -> Prediction:
        self.requests.append(("create", asyncio.get_running_loop().time()))
        seconds, failure = self.next_answer()
        await asyncio.sleep(seconds)
        if failure is not None:
            raise failure
        return PREDICTION


async def create(out: ResilientUpstream, turn: CreateReservation | None = None) -> None:
    with suppress(RequestRefused):
        await out.create(REQUEST, turn=turn or await out.admission.admit())


@pytest.mark.parametrize(("answer", "freed_at"), [(None, 2.3), (DOWN, 2.3), (throttled(None), 4.0)])
def test_a_late_refusal_keeps_the_probe(
    run_on_virtual_loop: RunOnVirtualLoop, answer: RequestRefused | None, freed_at: float
) -> None:
    """Of one that was sent before: it puts off the next create, and the probe still counts."""

    async def main() -> None:
        limit = throttled(None)
        out = outbound(SlowCreateUpstream((0.1, limit), (1.3, limit), (0.9, answer)))
        first = [asyncio.create_task(create(out, out.admission.try_admit())) for _ in range(2)]
        await asyncio.sleep(0.5)
        await asyncio.gather(create(out), *first)
        async with asyncio.timeout(60):
            await out.admission.admit()
        assert now() - 1_000 == pytest.approx(freed_at, abs=0.05)

    run_on_virtual_loop(main())


def test_a_probe_cancelled_while_sending_blocks_nobody(
    run_on_virtual_loop: RunOnVirtualLoop,
) -> None:
    """Cancelled before its request came to the limit at all, or while it was under way."""

    async def main() -> None:
        for seconds in (0.0, 0.5):
            out = outbound(SlowCreateUpstream((0.0, throttled(None)), (30.0, None)))
            await create(out)
            probe = asyncio.create_task(create(out, await out.admission.admit()))
            await asyncio.sleep(seconds)
            probe.cancel()
            with suppress(asyncio.CancelledError):
                await probe
            del probe
            async with asyncio.timeout(20):
                await out.admission.admit()

    run_on_virtual_loop(main())


class AlternatingUpstream(SlowCreateUpstream):
    """Answers at random, and after very different times."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random

    def next_answer(self) -> tuple[float, BaseException | None]:
        retry_after = self.random.choice([None, 0.0, 0.5, 3.0])
        ends = [
            None,
            DOWN,
            NO_RESPONSE,
            throttled(retry_after),
            throttled(retry_after),
            throttled(retry_after),
        ]
        return self.random.choice([0.01, 0.3, 1.5, 6.0]), self.random.choice(ends)


async def come_and_go(out: ResilientUpstream, random: Random) -> None:
    """One caller: its turn is used, given back or dropped, and it may leave at any moment."""
    await asyncio.sleep(random.uniform(0, 20))
    turn = out.admission.try_admit() if random.random() < 0.5 else await out.admission.admit()
    if turn is None:
        return
    try:
        await asyncio.sleep(random.choice([0.0, 0.0, 0.2, 2.0]))
        if random.random() < 0.7:
            with suppress(RequestRefused, type(NO_RESPONSE)):
                await out.create(REQUEST, turn=turn)
    finally:
        if random.random() < 0.5:
            turn.release()
        del turn


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_events_leaves_the_limiter_usable(
    run_on_virtual_loop: RunOnVirtualLoop, seed: int
) -> None:
    """Once no create is under way the next is sent as soon as the wait is over that was told."""

    async def main() -> None:
        random = Random(seed)
        # Nothing else is to open and close by these answers.
        out = outbound(AlternatingUpstream(random), breaker_least=10_000)
        callers = [asyncio.create_task(come_and_go(out, random)) for _ in range(30)]
        for caller in random.sample(callers, 8):
            await asyncio.sleep(random.uniform(0, 3))
            caller.cancel()
        async with asyncio.timeout(600):
            await asyncio.gather(*callers, return_exceptions=True)
        del callers, caller
        async with asyncio.timeout(
            out.admission.backoff_seconds + 6.1
        ):  # 6.0: a steady turn's, at the most.
            await out.admission.admit()

    run_on_virtual_loop(main())
