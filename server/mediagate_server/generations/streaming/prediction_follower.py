"""Follower of one prediction to its terminal record: its stream where it has one, then polls.

A stream is a way to be early, a webhook is a hint: only a terminal status from a GET (or from the
create itself) ends the following. News of the prediction have it looked at now; while its stream is
read, once that has had a moment to deliver the end by itself.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from mediagate_server.generations.streaming.stream_reader import StreamReader
from mediagate_server.runtime.cancellation import CancelToken, PredictionNews
from mediagate_server.runtime.clock import Clock
from mediagate_server.store.records import Attempt, Generation
from mediagate_server.upstream.port import (
    NoResponse,
    Prediction,
    RequestRefused,
    UnreadableResponse,
    Upstream,
)

_FIRST, _GROWTH = 0.1, 1.5
_LOST_AFTER: Final = timedelta(seconds=10)
_MOST_UNREADABLE: Final = 3
"""Answers in a row about a prediction that nothing could read before it counts as lost: its cost is
unknown, and asking for ever would find out nothing more."""

_log = structlog.get_logger()


class PollInterval:
    """Poll intervals in seconds: the first, and the longest that it grows to."""

    SHORT: Final = (_FIRST, 2.0)
    """For what takes seconds."""
    MINUTES: Final = (_FIRST, 5.0)
    """For video."""
    WITH_WEBHOOKS: Final = (5.0, 60.0)
    """For video while webhooks come: asking is then only for those that got lost."""


def poll_interval(
    record: Generation, attempt: Attempt, webhook_url: Callable[[str], str | None]
) -> tuple[float, float]:
    """How often to ask how an attempt stands."""
    if record.modality != "video":
        return PollInterval.SHORT
    return PollInterval.WITH_WEBHOOKS if webhook_url(attempt.id) else PollInterval.MINUTES


class PredictionFollower:
    """Follows one prediction. `on_progress` gets every answer that is no end. `is_watched`: it is
    looked at often, also where webhooks come.

    Once `stop` is cancelled it sends a cancel and turns to polling at once.
    """

    def __init__(
        self,
        upstream: Upstream,
        clock: Clock,
        stop: CancelToken,
        news: PredictionNews,
        model: str,
        on_progress: Callable[[Prediction], None],
        poll: tuple[float, float],
        *,
        is_watched: Callable[[], bool] = lambda: False,
    ) -> None:
        self._upstream = upstream
        self._clock = clock
        self._stop = stop
        self._news = news
        self._model = model
        self._on_progress = on_progress
        self._first, self._longest = poll
        self._is_watched = is_watched
        self._cancelled = False
        self._answer: Prediction | None = None
        self._missing_since: datetime | None = None
        self._unreadable = 0

    async def follow(
        self, prediction: Prediction, reader: StreamReader | None
    ) -> Prediction | None:
        """The terminal prediction; None where upstream no longer knows it."""
        if prediction.status.is_terminal:
            return prediction
        prediction_id, url = prediction.id, prediction.stream_url
        del prediction  # Not to be held for as long as a stream is silent.
        if reader and not self._stop.is_cancelled:
            if not url:
                # Known by its id only: how it stands has to be asked first.
                await self._poll_once(prediction_id)
                url = self._answer.stream_url if self._answer else None
            if url and not self._is_over():
                await self._read(prediction_id, url, reader)
        return await self._poll(prediction_id)

    async def _read(self, prediction_id: str, url: str, reader: StreamReader) -> None:
        """To the stream's end, or until upstream says that there is nothing to come."""
        has_ended = partial(self._has_ended, prediction_id)
        while not await self._stop.run_until_cancelled(reader.read(url, has_ended), self._news):
            if self._stop.is_cancelled:
                return
            self._news.mark_seen()
            if await has_ended():
                return

    async def _has_ended(self, prediction_id: str) -> bool:
        return not await self._poll_once(prediction_id) or self._is_over()

    async def _poll(self, prediction_id: str) -> Prediction | None:
        interval, stopping = self._first, False
        while not self._is_over():
            if self._stop.is_cancelled and not stopping:
                stopping, interval = True, _FIRST
            if stopping and not self._cancelled and await self._cancel(prediction_id):
                self._cancelled, interval = True, _FIRST
            self._news.mark_seen()
            if not await self._poll_once(prediction_id):
                return None
            if self._is_over() or self._stop.is_cancelled != stopping:
                continue
            if await self._clock.wait(self._news, interval, self._news.seen):
                interval = _FIRST
            interval = min(interval * _GROWTH, self._longest_now())
        return self._answer

    def _longest_now(self) -> float:
        """Webhooks tell of the end only: whoever watches wants to see how far it is."""
        return min(self._longest, PollInterval.MINUTES[1]) if self._is_watched() else self._longest

    def _is_over(self) -> bool:
        return self._answer is not None and self._answer.status.is_terminal

    async def _poll_once(self, prediction_id: str) -> bool:
        """How it stands, into `_answer`. False where upstream does not know it, or cannot say.

        The wish that it ends goes first: it interrupts a question that is on its way.
        """
        asking = self._get(prediction_id)
        try:
            if self._stop.is_cancelled:
                await asking
            else:
                await self._stop.run_until_cancelled(asking)
        except RequestRefused as refused:
            return not refused.is_not_found or not self._is_lost()
        except UnreadableResponse as unreadable:
            return not self._is_unreadable(prediction_id, unreadable)
        except NoResponse:
            pass  # Retried and counted below this room; here it only means: ask again later.
        return True

    def _is_lost(self) -> bool:
        """Whether upstream has said for long enough that it does not know the prediction.

        What it has just made it may not find everywhere at once.
        """
        now = self._clock.now()
        self._missing_since = self._missing_since or now
        return now - self._missing_since >= _LOST_AFTER

    def _is_unreadable(self, prediction_id: str, unreadable: UnreadableResponse) -> bool:
        """Whether nothing will ever be read of it."""
        if unreadable.is_temporary:
            return False
        self._unreadable += 1
        if self._unreadable < _MOST_UNREADABLE:
            return False
        _log.error("prediction_unreadable", prediction=prediction_id, cause=unreadable.cause)
        return True

    async def _get(self, prediction_id: str) -> None:
        answer = await self._upstream.get(prediction_id, model=self._model)
        self._answer, self._missing_since, self._unreadable = answer, None, 0
        if not answer.status.is_terminal:
            self._on_progress(answer)

    async def _cancel(self, prediction_id: str) -> bool:
        """True once upstream has heard it; otherwise it is sent again with the next poll."""
        try:
            await self._upstream.cancel(prediction_id, model=self._model)
        except (RequestRefused, NoResponse):
            return False
        return True
