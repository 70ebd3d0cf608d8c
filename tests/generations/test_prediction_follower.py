"""How often upstream is asked, and what ends the waiting for a stream that says nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mediagate_server.generations.streaming.prediction_follower import (
    PollInterval,
    PredictionFollower,
)
from mediagate_server.generations.streaming.stream_reader import StreamReader
from mediagate_server.runtime.cancellation import NEWS_GRACE_SECONDS, CancelToken, PredictionNews
from mediagate_server.runtime.clock import SystemClock, Timer
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.upstream.port import (
    EventStream,
    Prediction,
    PredictionStatus,
    RefusalReason,
    RequestRefused,
    UnreadableResponse,
)

from .fake_upstream import UnexpectedCallUpstream

RUNNING = Prediction("p", PredictionStatus.PROCESSING, stream_url="https://upstream/p")
ENDED = Prediction("p", PredictionStatus.SUCCEEDED, output=["text"])


class InstantWaitClock(SystemClock):
    """Time passes at once; `pauses` are those that were made. Timers go off when they are told."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.timers: list[float] = []

    async def wait(self, notifier: Notifier, seconds: float, after: int = 0) -> bool:
        self.pauses.append(seconds)
        await asyncio.sleep(0)
        return notifier.count > after

    def call_later(self, seconds: float, callback: object) -> Timer:
        self.timers.append(seconds)
        assert callable(callback)
        return asyncio.get_running_loop().call_soon(callback)


class ScriptedPredictions(UnexpectedCallUpstream):
    """Answers as it is told to: a list of what each GET says, an error for each cancel."""

    def __init__(self, *gets: Prediction | Exception, refuses: int = 0) -> None:
        self.gets = list(gets)
        self.refuses = refuses
        self.opened = asyncio.Event()

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        prediction = self.gets.pop(0) if len(self.gets) > 1 else self.gets[0]
        if isinstance(prediction, Exception):
            raise prediction
        return prediction

    async def cancel(self, prediction_id: str, *, model: str) -> Prediction | None:
        if self.refuses:
            self.refuses -= 1
            raise RequestRefused(RefusalReason.ACCOUNT)
        self.gets = [RUNNING, ENDED]
        return None

    @asynccontextmanager
    async def stream(
        self, stream_url: str, *, last_event_id: str | None = None, model: str
    ) -> AsyncIterator[EventStream]:
        self.opened.set()
        await asyncio.Event().wait()
        yield NotImplemented


def follower(
    upstream: ScriptedPredictions, clock: InstantWaitClock, stop: CancelToken, news: PredictionNews
) -> PredictionFollower:
    return PredictionFollower(
        upstream, clock, stop, news, "a/b", lambda _: None, PollInterval.SHORT
    )


async def test_refused_cancels_back_off() -> None:
    """Up to the longest pause; once it was heard, the end is looked for soon."""
    clock = InstantWaitClock()
    upstream = ScriptedPredictions(RUNNING, refuses=20)
    following = follower(upstream, clock, CancelToken("asked for"), PredictionNews(clock))
    assert await following.follow(RUNNING, None) == ENDED
    _, longest = PollInterval.SHORT
    refused, heard = clock.pauses[:20], clock.pauses[20:]
    assert refused == sorted(refused)
    assert refused.count(longest) > 10
    assert max(heard) < longest


async def test_watched_predictions_are_polled_despite_webhooks() -> None:
    """They tell of the end alone: how far it is has to be asked. Unwatched, that is seldom."""
    often, seldom = PollInterval.MINUTES[1], PollInterval.WITH_WEBHOOKS[1]
    for watched, longest in ((True, often), (False, seldom)):
        clock, upstream = InstantWaitClock(), ScriptedPredictions(*[RUNNING] * 20, ENDED)
        following = PredictionFollower(
            upstream,
            clock,
            CancelToken(),
            PredictionNews(clock),
            "a/b",
            lambda _: None,
            PollInterval.WITH_WEBHOOKS,
            is_watched=lambda watched=watched: watched,  # type: ignore[misc]
        )
        assert await following.follow(RUNNING, None) == ENDED
        assert max(clock.pauses) == longest


async def test_a_webhook_interrupts_an_idle_stream() -> None:
    """Upstream is asked; where it is not the end the stream is opened again."""
    clock = InstantWaitClock()
    news = PredictionNews(clock)
    upstream = ScriptedPredictions(RUNNING, ENDED)
    reader = StreamReader(upstream, clock, "a/b", lambda _text, _id: None)
    following = asyncio.create_task(
        follower(upstream, clock, CancelToken(), news).follow(RUNNING, reader)
    )
    for _ in range(2):
        await asyncio.wait_for(upstream.opened.wait(), 10)
        upstream.opened.clear()
        news.notify()
    assert await asyncio.wait_for(following, 10) == ENDED
    assert clock.timers == [NEWS_GRACE_SECONDS, NEWS_GRACE_SECONDS]
    assert not clock.pauses


async def test_consecutive_unreadable_responses_make_a_run_lost() -> None:
    """One now and then in half an hour is none of its end."""
    clock, unreadable = InstantWaitClock(), UnreadableResponse("Expired")
    now_and_then = (unreadable, unreadable, RUNNING) * 3
    upstream = ScriptedPredictions(*now_and_then, ENDED)
    end = await follower(upstream, clock, CancelToken(), PredictionNews(clock)).follow(
        RUNNING, None
    )
    assert end is ENDED
    upstream = ScriptedPredictions(*now_and_then, unreadable, unreadable, unreadable, ENDED)
    assert (
        await follower(upstream, clock, CancelToken(), PredictionNews(clock)).follow(RUNNING, None)
        is None
    )


async def test_polling_and_a_webhook_end_a_run_once() -> None:
    """What ends already is not ended again: it was a traceback, and INTERNAL to whoever cancels."""
    stop, news = CancelToken(), PredictionNews(InstantWaitClock())
    broken: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: broken.append(context["message"]))

    async def reading() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            assert stop.cancel("asked for")

    news.notify()
    news.notify()
    task = asyncio.create_task(stop.run_until_cancelled(reading(), news))
    await asyncio.sleep(0)
    news.notify()
    news.notify()
    assert await task is False
    assert not broken
