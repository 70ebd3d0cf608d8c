"""What an attack is, what it is given, and how it is carried out in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

import grpc

from tests.grpc_errors import LOST_STATUS
from tests.rpc.stubs import Stubs
from tests.rpc.tenant_keys import channel_of

from .shared_server import HOSTILE, POOR

WRONG = "WRONG:"
LEAVING_SECONDS = 3.0
OWN = "client"
NEVER = frozenset({"INTERNAL", "UNKNOWN"})
"""Answers that are right for nobody: an error that was not foreseen."""
_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(frozen=True)
class Target:
    """Where a server is, and for how long it is attacked. Addresses are HOST:PORT, upstream's a
    URL.

    `processor_share` is what a harmless load is to make the server's processes take of a processor.
    """

    address: str
    web: str
    operations: str
    upstream: str
    seed: int
    seconds: float
    processor_share: float = 0.0
    processor_seconds: Callable[[], float] = float


@dataclass
class Attacker:
    """The hostile tenant: its stubs, its time, and what it was answered."""

    target: Target
    stubs: Stubs
    poor: Stubs
    """As a tenant whose budget is used up."""
    random: Random
    answers: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    """The words of the first answer of each code."""

    _end: float = 0.0

    @property
    def seconds_left(self) -> float:
        """Until the attack is to be over. They begin when they are asked for: what it takes to
        make ready is not counted.
        """
        self._end = self._end or time.monotonic() + self.target.seconds
        return max(self._end - time.monotonic(), 0.0)

    async def answer(self, call: Awaitable[Any]) -> Any:
        """One call, to its answer, which is counted by its code; None where that is an error."""
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            name = OWN if error.details() == LOST_STATUS else error.code().name
            self.details.setdefault(name, str(error.details()))
        else:
            self.answers["OK"] += 1
            return answer
        self.answers[name] += 1
        return None

    def saw(self, harm: str) -> None:
        """Something that is not right, told by what it is called."""
        self.answers[f"{WRONG} {harm}"] += 1

    async def events(self, stream: Any) -> Any:
        """A server's stream, to its end, counted likewise; the last message."""

        async def read() -> Any:
            last = None
            async for message in stream:
                last = message
            return last

        return await self.answer(read())

    async def repeat(self, call: Callable[[], Awaitable[Any]], *, at_once: int = 4) -> None:
        """The call again and again by so many callers, until the time is over."""

        async def again() -> None:
            while self.seconds_left:
                await self.answer(call())

        tasks = [asyncio.create_task(again()) for _ in range(at_once)]
        _, late = await asyncio.wait(tasks, timeout=self.seconds_left)
        await _cancelled(late)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def repeat_any(self, *calls: Callable[[], Awaitable[Any]], at_once: int = 4) -> None:
        """The same with one of these each time."""

        def call() -> Awaitable[Any]:
            return self.random.choice(calls)()

        await self.repeat(call, at_once=at_once)

    async def hold_open(self, count: int, begin: Callable[[], Awaitable[Any]]) -> None:
        """Has so many of something under way at once, until the time is over."""
        tasks = [asyncio.ensure_future(self.answer(begin())) for _ in range(count)]
        _, late = await asyncio.wait(tasks, timeout=self.seconds_left)
        await _cancelled(late)

    async def rest(self) -> None:
        """Nothing more, until the time is over."""
        await asyncio.sleep(self.seconds_left)


Run = Callable[[Attacker], Awaitable[None]]


@dataclass(frozen=True)
class Attack:
    """One way to harm others. `right`: what the server does about it, in words.

    `answers` are the codes that it may answer with; none: any but those that are never right.
    """

    name: str
    right: str
    run: Run
    answers: frozenset[str] = frozenset()
    grpc_growth: int = 0
    """Bytes that gRPC takes for it however little is done with the messages, beside the bound."""

    def wrong(self, answers: dict[str, int]) -> dict[str, int]:
        """The answers that were not right, with their counts."""
        return {
            code: count
            for code, count in answers.items()
            if code in NEVER
            or code.startswith(WRONG)
            or (self.answers and code not in {*self.answers, OWN})
        }


def attack(right: str, *answers: str, grpc_growth: int = 0) -> Callable[[Run], Attack]:
    """The attack that a function carries out, by its name."""

    def add_attack(run: Run) -> Attack:
        return Attack(run.__name__, right, run, frozenset(answers), grpc_growth)

    return add_attack


def become_elsewhere() -> None:
    """An attacker has a machine of its own: its work is to take nothing from those measured."""
    os.nice(15)


@dataclass(frozen=True)
class ResponseTally:
    """What an attacker was answered: how often with which code, and words of the first of each."""

    codes: dict[str, int]
    details: dict[str, str]


@cache
def _runner() -> asyncio.Runner:
    """One event loop for all of a process's attacks: gRPC does not leave one for another."""
    return asyncio.Runner()


def carry_out(names: Sequence[str], target: Target) -> dict[str, ResponseTally]:
    """Attacks in all these ways at once; for a process of its own."""
    from .attack_registry import ATTACKS

    async def together() -> dict[str, ResponseTally]:
        tallies = await asyncio.gather(*(_carry_out(ATTACKS[name].run, target) for name in names))
        return dict(zip(names, tallies, strict=True))

    return _runner().run(together())


async def _carry_out(run: Run, target: Target) -> ResponseTally:
    async with (
        channel_of(target.address, HOSTILE, _OPTIONS) as channel,
        channel_of(target.address, POOR, _OPTIONS) as poor,
    ):
        attacker = Attacker(target, Stubs.on(channel), Stubs.on(poor), Random(target.seed))
        with contextlib.suppress(grpc.aio.AioRpcError):  # Counted; or its server has died.
            await run(attacker)
        return ResponseTally(dict(attacker.answers), attacker.details)


async def _cancelled(tasks: set[asyncio.Task[Any]] | set[asyncio.Future[Any]]) -> None:
    """Ends them. gRPC's client may leave a call that is cancelled as it begins without any end."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=LEAVING_SECONDS)
