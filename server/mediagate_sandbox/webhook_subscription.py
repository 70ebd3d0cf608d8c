"""Webhook subscription of a prediction: event filter and rate of deliveries.

`start` and `completed` are delivered at once. `output` and `logs` share a minimum interval: sooner
events are merged into one delivery at its end, with the state of then.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from mediagate_sandbox.clock import Clock
from mediagate_sandbox.predictions import Happening, Prediction, new_id
from mediagate_sandbox.webhook_delivery import Delivery, DeliveryQueue, WebhookDeliverer

_DEFAULT_EVENTS: tuple[Happening, ...] = ("output", "completed")
_ALWAYS: tuple[tuple[Happening, ...], ...] = (("start",), ("completed",))

Render = Callable[[Prediction], dict[str, object]]
"""Writes a prediction as `predictions.get` would answer it now."""


class WebhookSubscription:
    """Webhook of one prediction, subscribed to its events."""

    def __init__(
        self,
        prediction: Prediction,
        url: str,
        render: Render,
        deliverer: WebhookDeliverer,
        clock: Clock,
        interval: float,
    ) -> None:
        """Deliver to `url`; output and logs at most once per `interval` seconds."""
        request = prediction.request
        events = request.webhook_events_filter
        self._events = _DEFAULT_EVENTS if events is None else events
        self._prediction = prediction
        self._url = url
        self._render = render
        self._deliverer = deliverer
        self._queue = DeliveryQueue(deliverer)
        self._clock = clock
        self._interval = interval
        self._free_at = clock.monotonic()
        self._pending: list[Happening] = []
        self._prediction.listen(self._on_events)

    def _on_events(self, new_events: tuple[Happening, ...]) -> None:
        events = tuple(each for each in new_events if each in self._events)
        if events in _ALWAYS:
            if events == ("completed",):
                # It shows all that was still to be told.
                self._pending.clear()
            self._deliver(events)
        elif events:
            waits = bool(self._pending)
            self._pending += [each for each in events if each not in self._pending]
            if self._clock.monotonic() >= self._free_at:
                self._deliver_pending()
            elif not waits:
                self._deliverer.spawn(self._deliver_later())

    async def _deliver_later(self) -> None:
        await self._clock.sleep_until(self._free_at)
        if self._pending and self._clock.monotonic() >= self._free_at:
            self._deliver_pending()

    def _deliver_pending(self) -> None:
        self._free_at = self._clock.monotonic() + self._interval
        events, self._pending = tuple(self._pending), []
        self._deliver(events)

    def _deliver(self, events: tuple[Happening, ...]) -> None:
        prediction = self._prediction
        self._queue.put(
            Delivery(
                id=f"msg_{new_id()}",
                prediction=prediction.id,
                model=prediction.request.model.slug,
                events=events,
                status=prediction.status,
                url=self._url,
                body=orjson.dumps(self._render(prediction), option=orjson.OPT_NON_STR_KEYS),
            )
        )
