"""Decides which events of a prediction its webhook hears of, and when.

`start` and `completed` are told at once. `output` and `logs` share one pace: what happens sooner
after the last of them waits for its turn and is told as it stands then, once.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from mediagate_sandbox.clock import Clock
from mediagate_sandbox.predictions import Happening, Prediction, new_id
from mediagate_sandbox.webhook_delivery import Delivery, DeliveryQueue, WebhookDeliverer

_DEFAULT_EVENTS: tuple[Happening, ...] = ("output", "completed")
_ALWAYS: tuple[tuple[Happening, ...], ...] = (("start",), ("completed",))

Show = Callable[[Prediction], dict[str, object]]
"""Writes a prediction as `predictions.get` would answer it now."""


class WebhookSubscription:
    """One prediction's webhook. It listens to the prediction from its creation on."""

    def __init__(
        self,
        prediction: Prediction,
        url: str,
        show: Show,
        deliveries: WebhookDeliverer,
        clock: Clock,
        interval: float,
    ) -> None:
        """Tell `url`; at most one of output and logs per `interval` seconds."""
        order = prediction.order
        wanted = order.webhook_events_filter
        self._wanted = _DEFAULT_EVENTS if wanted is None else wanted
        self._prediction = prediction
        self._url = url
        self._show = show
        self._deliveries = deliveries
        self._lane = DeliveryQueue(deliveries)
        self._clock = clock
        self._interval = interval
        self._free_at = clock.monotonic()
        self._pending: list[Happening] = []
        self._prediction.listen(self._hear)

    def _hear(self, happened: tuple[Happening, ...]) -> None:
        wanted = tuple(each for each in happened if each in self._wanted)
        if wanted in _ALWAYS:
            if wanted == ("completed",):
                # It shows all that was still to be told.
                self._pending.clear()
            self._tell(wanted)
        elif wanted:
            waits = bool(self._pending)
            self._pending += [each for each in wanted if each not in self._pending]
            if self._clock.monotonic() >= self._free_at:
                self._tell_pending()
            elif not waits:
                self._deliveries.spawn(self._tell_in_turn())

    async def _tell_in_turn(self) -> None:
        await self._clock.sleep_until(self._free_at)
        if self._pending and self._clock.monotonic() >= self._free_at:
            self._tell_pending()

    def _tell_pending(self) -> None:
        self._free_at = self._clock.monotonic() + self._interval
        events, self._pending = tuple(self._pending), []
        self._tell(events)

    def _tell(self, events: tuple[Happening, ...]) -> None:
        prediction = self._prediction
        self._lane.put(
            Delivery(
                id=f"msg_{new_id()}",
                prediction=prediction.id,
                model=prediction.order.model.slug,
                events=events,
                status=prediction.status,
                url=self._url,
                body=orjson.dumps(self._show(prediction), option=orjson.OPT_NON_STR_KEYS),
            )
        )
