"""Follow one prediction to its terminal record: its stream where it has one, then polls.

A stream is a way to be early, never a proof: only a terminal status from a GET (or from the create
itself) ends the following. A stream that closes without `done` is normal for slow starts; it is
opened again from its last id.
"""

import asyncio
from collections.abc import Callable

from mediagate_server.generations.doors import Clock, UpstreamDoor
from mediagate_server.replicate.port import (
    DoneEvent,
    ErrorEvent,
    NoAnswer,
    OutputEvent,
    Prediction,
    Refusal,
    Refused,
    StreamEvent,
)

_FIRST_POLL, _GROWTH = 0.1, 1.5
_LONGEST_POLL = {False: 2.0, True: 5.0}
_LONGEST_REOPENING = 5.0


class Follower:
    """Follows one prediction. `on_text` and `on_progress` are called as things happen.

    `stop`, once set, sends a cancel and turns to polling at once. `patient` is for what takes
    minutes: it is polled less often. `stream_was_clean` tells afterwards whether the stream came
    to its own `done` without a gap.
    """

    def __init__(
        self,
        *,
        upstream: UpstreamDoor,
        clock: Clock,
        model: str,
        stop: asyncio.Event,
        on_text: Callable[[str], None],
        on_progress: Callable[[Prediction], None],
        patient: bool,
    ) -> None:
        self._upstream = upstream
        self._clock = clock
        self._model = model
        self._stop = stop
        self._on_text = on_text
        self._on_progress = on_progress
        self._patient = patient
        self.stream_was_clean = False
        self._last_id: str | None = None
        self._seen: set[str] = set()
        self._unnumbered = False

    async def to_the_end(self, prediction: Prediction, *, stream: bool) -> Prediction | None:
        """The terminal prediction; None where upstream no longer knows it."""
        if prediction.status.is_terminal:
            return prediction
        if stream and prediction.stream_url:
            await self._read_until_stopped(prediction.id, prediction.stream_url)
        return await self._poll(prediction.id)

    async def _poll(self, prediction_id: str) -> Prediction | None:
        interval = _FIRST_POLL
        cancelled = False
        while True:
            if self._stop.is_set() and not cancelled:
                cancelled = await self._cancel(prediction_id)
                interval = _FIRST_POLL
            try:
                prediction = await self._upstream.get(prediction_id, model=self._model)
            except Refused as refused:
                if refused.refusal is Refusal.NOT_FOUND:
                    return None
            except NoAnswer:
                pass  # Retried and counted below this room; here it only means: ask again later.
            else:
                if prediction.status.is_terminal:
                    return prediction
                self._on_progress(prediction)
            if cancelled:
                await self._clock.wait(asyncio.Event(), interval)
            else:
                await self._clock.wait(self._stop, interval)
            interval = min(interval * _GROWTH, _LONGEST_POLL[self._patient])

    async def _cancel(self, prediction_id: str) -> bool:
        """True once upstream has heard it; otherwise it is sent again with the next poll."""
        try:
            await self._upstream.cancel(prediction_id, model=self._model)
        except (Refused, NoAnswer):
            return False
        return True

    async def _read_until_stopped(self, prediction_id: str, stream_url: str) -> None:
        reading = asyncio.ensure_future(self._read(prediction_id, stream_url))
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await reading
        finally:
            reading.cancel()
            stopping.cancel()
            await asyncio.gather(reading, stopping, return_exceptions=True)

    async def _read(self, prediction_id: str, stream_url: str) -> None:
        """Read the stream to its `done`, over as many openings as it takes."""
        barren = 0
        while True:
            before = self._last_id
            try:
                if await self._read_once(stream_url):
                    self.stream_was_clean = True
                    return
            except Refused:
                return  # It cannot be opened: the polls tell the end.
            except NoAnswer:
                pass  # Cut: looked at below like any other end without `done`.
            if self._unnumbered:
                return  # Without ids a second opening could repeat text; the polls complete it.
            if await self._has_ended(prediction_id):
                return
            barren = 0 if self._last_id != before else barren + 1
            wait = min(0.05 * 2**barren, _LONGEST_REOPENING)
            await self._clock.wait(self._stop, wait)

    async def _read_once(self, stream_url: str) -> bool:
        """One opening. True where `done` came."""
        async with self._upstream.stream(
            stream_url, last_event_id=self._last_id, model=self._model
        ) as batches:
            async for batch in batches:
                if self._take(batch):
                    return True
        return False

    def _take(self, batch: tuple[StreamEvent, ...]) -> bool:
        """What one socket read brought, told as one. True where it held `done`."""
        pieces = []
        done = False
        for event in batch:
            if isinstance(event, OutputEvent):
                if event.id and event.id in self._seen:
                    continue
                if event.id:
                    self._seen.add(event.id)
                    self._last_id = event.id
                else:
                    self._unnumbered = True
                pieces.append(event.text)
            elif isinstance(event, DoneEvent | ErrorEvent):
                done = True
        if pieces:
            self._on_text("".join(pieces))
        return done

    async def _has_ended(self, prediction_id: str) -> bool:
        try:
            prediction = await self._upstream.get(prediction_id, model=self._model)
        except (Refused, NoAnswer):
            return False
        self._on_progress(prediction)
        return prediction.status.is_terminal
