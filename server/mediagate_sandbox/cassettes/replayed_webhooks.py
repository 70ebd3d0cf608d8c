"""Webhooks of a replay: those that were recorded, or ones made of the states that were seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mediagate_sandbox.cassettes.cassette import RecordedResponse, RecordedWebhook, Snapshot
from mediagate_sandbox.cassettes.requests import TERMINAL_STATUSES
from mediagate_sandbox.cassettes.run_playback import RunPlayback
from mediagate_sandbox.predictions import Happening
from mediagate_sandbox.webhook_delivery import Delivery, DeliveryQueue, WebhookDeliverer

_DEFAULT_EVENTS = ("output", "completed")

Render = Callable[[RecordedResponse], bytes]
"""Returns the body of a recorded response with local links."""


class ReplayedWebhooks:
    """Sends the webhooks of playbacks."""

    def __init__(self, deliverer: WebhookDeliverer) -> None:
        """Send by `deliverer`, which signs and tries again."""
        self._deliverer = deliverer
        self._receivers: dict[str, str] = {}

    def receiver(self, prediction: str) -> str | None:
        """Return who gets the webhooks of a prediction."""
        return self._receivers.get(prediction)

    def stop(self) -> None:
        """Stop all that are under way."""
        self._deliverer.stop()
        self._receivers.clear()

    def start(
        self,
        playback: RunPlayback,
        url: str,
        events: Any,
        recorded_events: Any,
        render: Render,
    ) -> None:
        """Send a run's webhooks to `url` as they become due.

        `events` is the filter of the create, `recorded_events` that of the recorded one: what was
        recorded is sent only if they are the same.
        """
        run = playback.run
        self._receivers[run.id] = url
        recorded = run.webhooks if events == recorded_events else []
        wanted = tuple(events) if isinstance(events, list) else _DEFAULT_EVENTS
        deliveries = recorded or list(_made(run.id, run.snapshots, wanted))
        self._deliverer.spawn(self._send(playback, url, deliveries, render))

    async def _send(
        self, playback: RunPlayback, url: str, deliveries: list[RecordedWebhook], render: Render
    ) -> None:
        queue = DeliveryQueue(self._deliverer)
        for each in deliveries:
            await playback.wait_for(each.at)
            playback.show(each.at)
            run = playback.run
            status = _status(run.snapshots, each.at)
            response = RecordedResponse(200, {}, each.body)
            queue.put(
                Delivery(
                    id=each.id,
                    prediction=run.id,
                    model=run.model,
                    events=(_event(status),),
                    status=status,
                    url=url,
                    body=render(response),
                )
            )


def _made(
    prediction: str, snapshots: Iterable[Snapshot], wanted: tuple[str, ...]
) -> Iterable[RecordedWebhook]:
    """Make the webhooks of the start and of the end."""
    started = False
    for each in snapshots:
        if each.status in TERMINAL_STATUSES:
            if "completed" in wanted:
                yield RecordedWebhook(each.at, f"msg_{prediction}_completed", each.response.body)
            return
        if each.status == "processing" and not started:
            started = True
            if "start" in wanted:
                yield RecordedWebhook(each.at, f"msg_{prediction}_start", each.response.body)


def _status(snapshots: Iterable[Snapshot], at: float) -> str:
    return next((each.status for each in snapshots if each.at == at), "processing")


def _event(status: str) -> Happening:
    return "completed" if status in TERMINAL_STATUSES else "output"
