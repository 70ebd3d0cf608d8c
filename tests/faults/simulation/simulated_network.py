"""The way to upstream, for one process: answers come late, or never, and so do requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Final

from mediagate_server.upstream.policies.create_retry_policy import CreateRetryPolicy
from mediagate_server.upstream.port import (
    CreateRequest,
    CreateReservation,
    DoneEvent,
    EventStream,
    NoResponse,
    OutputEvent,
    Prediction,
    PredictionPage,
    RefusalReason,
    RequestRefused,
    StreamEvent,
)
from tests.generations.fake_upstream import UnexpectedCallUpstream, free_turn
from tests.sse_batches import SseBatches

from .fault_schedule import FaultSchedule
from .simulated_upstream import BEGIN, SimulatedRun, SimulatedUpstream

POST_TIMEOUT: Final = 30.0
_PAGE: Final = 4


class Network:
    """What all processes share: upstream, and what was posted to it for which attempt."""

    def __init__(self, chance: FaultSchedule, upstream: SimulatedUpstream) -> None:
        self.chance = chance
        self.upstream = upstream
        self.posts: Counter[str] = Counter()


class SimulatedNetworkUpstream(UnexpectedCallUpstream):
    """An account's API and its admission for one process; a dead one hears and sends nothing.

    `intends` tells whether an attempt may be sent, by what is durable.
    """

    def __init__(
        self, network: Network, is_alive: Callable[[], bool], intends: Callable[[str], bool]
    ) -> None:
        self._network = network
        self._chance = network.chance
        self._upstream = network.upstream
        self._is_alive = is_alive
        self._intends = intends
        self._blocked_until = 0.0
        self._retry = CreateRetryPolicy(Random(network.chance.seed))

    def delay_before_retry(self, refused: RequestRefused, ordinal: int) -> float | None:
        """See CreateAdmission."""
        return self._retry.delay_before_retry(refused, ordinal)

    def try_admit(self, model: str = "") -> CreateReservation | None:
        """See Upstream, and CreateAdmission."""
        return free_turn() if self._chance.random.random() < 0.8 else None

    async def admit(self, model: str = "", *, again: bool = False) -> CreateReservation:
        """See Upstream, and CreateAdmission."""
        await self._pause(self._chance.random.choice((0.0, 0.1, 6.0)) + self.backoff_seconds)
        return free_turn()

    @property
    def backoff_seconds(self) -> float:
        """See Upstream, and CreateAdmission."""
        return max(self._blocked_until - asyncio.get_running_loop().time(), 0.0)

    @property
    def creates_per_second(self) -> float | None:
        """See Upstream, and CreateAdmission."""
        return None

    async def create(
        self, request: CreateRequest, *, model: str, turn: CreateReservation | None
    ) -> Prediction:
        """See Upstream, and CreateAdmission."""
        self._chance.breaks()
        await self._pause(self._chance.latency())
        if self._chance.goes_wrong(0.3) or (request.may_send and not request.may_send()):
            raise RequestRefused(RefusalReason.UNREACHABLE)
        assert request.webhook is not None
        attempt = request.webhook.rpartition("/")[2]
        self._chance.event(f"post {attempt}")
        await self._if_alive()
        self._network.posts[attempt] += 1
        assert self._network.posts[attempt] == 1, "posted twice"
        assert self._intends(attempt), "posted without a durable intent"
        return await self._send(request, attempt)

    async def _send(self, request: CreateRequest, attempt: str) -> Prediction:
        """It is on its way: what becomes of it there does not hang on who sent it."""
        random, loop = self._chance.random, asyncio.get_running_loop()
        fate = random.choice(("lost", "late", "dropped", "throttled", "answer lost"))
        if not self._chance.goes_wrong():
            fate = ""
        if fate == "throttled":
            await self._pause(self._chance.latency())
            self._blocked_until = loop.time() + random.choice((1.0, 5.0))
            raise RequestRefused(RefusalReason.THROTTLED)
        if not fate and self._chance.api_fails():
            return await self._fail(request, attempt)
        created: asyncio.Future[SimulatedRun] = loop.create_future()

        def arrive() -> None:
            self._chance.event(f"taken {attempt}")
            run = self._upstream.accept(request, attempt)
            if not created.done():
                created.set_result(run)

        after = random.uniform(1, POST_TIMEOUT) if fate == "late" else self._chance.latency()
        if fate != "dropped":
            loop.call_later(after, arrive)
        if fate in {"late", "dropped", "lost"}:
            await self._pause(POST_TIMEOUT)
            raise NoResponse("timeout")
        run = await created
        await self._pause(self._chance.latency())
        if fate == "answer lost":
            raise NoResponse("reset")
        self._chance.event(f"answered {attempt}")
        await self._if_alive()
        self._chance.breaks()
        return self._upstream.show(run)

    async def _fail(self, request: CreateRequest, attempt: str) -> Prediction:
        """The API says that it failed. It may have made the prediction, or make it yet.

        What it made is listed before nobody looks for it any more, but where it hides things.
        """
        random, hides = self._chance.api, self._upstream.hides
        await self._pause(random.choice((0.02, 0.3, 20.0)))
        if random.random() < 0.5:
            after, lag = random.uniform(0, 8), random.uniform(0, 90 if hides else 10)

            def arrive() -> None:
                self._chance.event(f"taken {attempt} in spite of an error")
                self._upstream.accept(request, attempt, lag)

            asyncio.get_running_loop().call_later(after, arrive)
        raise NoResponse("http status 500", http_status=500, api_error=True)

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        """See Upstream, and CreateAdmission."""
        await self._way()
        return self._upstream.show(self._upstream.runs[prediction_id])

    async def cancel(self, prediction_id: str, *, model: str) -> Prediction | None:
        """See Upstream, and CreateAdmission."""
        self._chance.event(f"cancel {prediction_id}")
        await self._way()
        self._upstream.cancel(self._upstream.runs[prediction_id])
        await self._way()
        return None

    async def list_predictions(
        self,
        *,
        cursor: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> PredictionPage:
        """See Upstream, and CreateAdmission."""
        await self._way()
        now = (asyncio.get_running_loop()).time()
        listed = [
            run
            for run in reversed(self._upstream.runs.values())
            if run.listed_from <= now and _between(run, created_after, created_before)
        ]
        listed.sort(key=lambda run: -run.create_time)
        start = int(cursor or 0)
        end = start + _PAGE
        page = tuple(map(self._upstream.show, listed[start:end]))
        return PredictionPage(page, str(end) if end < len(listed) else None)

    def stream(
        self, stream_url: str, *, last_event_id: str | None = None, model: str
    ) -> AbstractAsyncContextManager[EventStream]:
        """See Upstream, and CreateAdmission."""
        run = self._upstream.runs[stream_url.rpartition("/")[2]]
        return self._opened(run, last_event_id)

    @asynccontextmanager
    async def _opened(
        self, run: SimulatedRun, last_event_id: str | None
    ) -> AsyncIterator[EventStream]:
        await self._way()
        repeats = self._chance.random.random() < 0.3
        begin = 0 if repeats or not last_event_id else int(last_event_id.partition(":")[2]) + 1
        yield SseBatches(self._events(run, begin))

    async def _events(self, run: SimulatedRun, said: int) -> AsyncIterator[tuple[StreamEvent, ...]]:
        loop = asyncio.get_running_loop()
        while True:
            self._chance.breaks()
            words = run.said(loop.time())
            if len(words) > said:
                yield tuple(
                    OutputEvent(word, f"1700000000:{number}")
                    for number, word in enumerate(words[said:], said)
                )
                said = len(words)
            if run.is_over(loop.time()):
                yield (DoneEvent(),)
                return
            if self._chance.goes_wrong(0.2):
                if self._chance.random.random() < 0.5:
                    raise NoResponse("cut")
                return
            await self._pause(min(run.pace, max(run.ends - loop.time(), 0.0)) or 0.01)

    async def _way(self) -> None:
        """There, or not."""
        self._chance.breaks()
        await self._pause(self._chance.latency())
        if self._chance.goes_wrong(0.5):
            raise NoResponse("reset")

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._if_alive()

    async def _if_alive(self) -> None:
        if not self._is_alive():
            await asyncio.Event().wait()


def _between(run: SimulatedRun, after: datetime | None, before: datetime | None) -> bool:
    create_time = BEGIN + timedelta(seconds=run.create_time)
    return (after is None or create_time >= after) and (before is None or create_time <= before)
