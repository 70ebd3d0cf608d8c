"""Posts webhooks: signed, in the order of events, no redirects followed, the last one retried.

What becomes of a delivery is asked of a `DeliveryPolicy` each time: usually it is posted once, and
a fault plan may lose it, repeat it, hold it back or forge it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from mediagate_sandbox.clock import Clock, in_time
from mediagate_sandbox.predictions import Happening
from mediagate_sandbox.request_log import LoggedWebhook, RequestLog, WebhookAttempt
from mediagate_sandbox.settings import SandboxSettings
from mediagate_sandbox.webhook_signing import WebhookSigner

log = logging.getLogger("mediagate.sandbox")

_RETRIES = 6
_FIRST_FAILURE = 400


@dataclass(frozen=True, slots=True)
class Delivery:
    """News of one prediction, for its webhook."""

    id: str
    """`webhook-id`: the same however often it is posted."""
    prediction: str
    model: str
    events: tuple[Happening, ...]
    """Why it is sent; `output` and `logs` may come together."""
    status: str
    url: str
    body: bytes

    @property
    def terminal(self) -> bool:
        """Whether it tells of the end, and is therefore retried."""
        return "completed" in self.events


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One of the times that a delivery is posted."""

    delay: float = 0.0
    """Seconds to hold it back; others overtake it."""
    after_next: bool = False
    """Whether the prediction's next delivery overtakes it. There is none after the last one."""
    forged: bool = False
    """Whether its signature is that of someone who does not know the secret."""
    body: bytes | None = None
    """What is posted and signed instead of the delivery's own body."""


DeliveryPolicy = Callable[[Delivery], Sequence[DeliveryAttempt]]
"""Decides what becomes of a delivery; asked once for each, retries included."""


def deliver_once(_: Delivery) -> Sequence[DeliveryAttempt]:
    """Every delivery is posted once."""
    return (DeliveryAttempt(),)


def retry_delays(span: float) -> tuple[float, ...]:
    """Seconds from the first attempt to each retry: distances double, the last one is `span`."""
    return tuple(span * (2**number - 1) / (2**_RETRIES - 1) for number in range(1, _RETRIES + 1))


class WebhookDeliverer:
    """Posts deliveries inside one task group."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        session: aiohttp.ClientSession,
        clock: Clock,
        signer: WebhookSigner,
        settings: SandboxSettings,
        observations: RequestLog,
        fate: DeliveryPolicy = deliver_once,
    ) -> None:
        """Tasks end with `group`; `session` is closed by its owner."""
        self._group = group
        self._session = session
        self._clock = clock
        self._signer = signer
        self._timeout = settings.webhook_timeout
        self._retries = retry_delays(settings.webhook_retry_span)
        self._observations = observations
        self.fate = fate
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else, until it ends or the sandbox stops."""
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Give up what is under way or waits to be posted, as a dying server would."""
        for task in self._tasks:
            task.cancel()

    def seen(self, delivery: Delivery) -> LoggedWebhook:
        """Begin the record of a delivery."""
        return self._observations.webhook(
            LoggedWebhook(delivery.id, delivery.prediction, delivery.events, delivery.status)
        )

    async def deliver(
        self, delivery: Delivery, posting: DeliveryAttempt, seen: LoggedWebhook
    ) -> None:
        """Post it. What tells of the end is posted again later, if this fails."""
        if not await self._attempt(delivery, posting, seen) and delivery.terminal:
            self.spawn(self._retry(delivery, posting, seen))

    async def deliver_late(
        self, delivery: Delivery, posting: DeliveryAttempt, seen: LoggedWebhook
    ) -> None:
        """Post it after its delay."""
        await self._clock.sleep_until(self._clock.monotonic() + posting.delay)
        await self.deliver(delivery, posting, seen)

    async def _retry(
        self, delivery: Delivery, posting: DeliveryAttempt, seen: LoggedWebhook
    ) -> None:
        begun = self._clock.monotonic()
        for delay in self._retries:
            await self._clock.sleep_until(begun + delay)
            if await self._attempt(delivery, posting, seen):
                return

    async def _attempt(
        self, delivery: Delivery, posting: DeliveryAttempt, seen: LoggedWebhook
    ) -> bool:
        """One request; whether there is nothing left to do."""
        attempt = WebhookAttempt(self._clock.now())
        seen.attempts.append(attempt)
        if not await in_time(self._clock, self._timeout, self._request(delivery, posting, attempt)):
            attempt.outcome = "timeout"
        log.info("webhook %s: %s", "+".join(delivery.events), attempt.outcome)
        return isinstance(attempt.outcome, int) and attempt.outcome < _FIRST_FAILURE

    async def _request(
        self, delivery: Delivery, posting: DeliveryAttempt, attempt: WebhookAttempt
    ) -> None:
        body = delivery.body if posting.body is None else posting.body
        sign = self._signer.forged_headers if posting.forged else self._signer.headers
        headers = {
            "Content-Type": "application/json",
            **sign(delivery.id, self._clock.now(), body),
        }
        try:
            async with self._session.post(
                delivery.url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                attempt.outcome = answer.status
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            # A receiver that cannot be reached is what retries are for; its address stays out.
            attempt.outcome = type(failure).__name__


class DeliveryQueue:
    """The deliveries of one prediction: each is posted when the one before it was answered."""

    def __init__(self, deliveries: WebhookDeliverer) -> None:
        """Nothing to post yet."""
        self._deliveries = deliveries
        self._waiting: deque[Delivery] = deque()
        self._held: list[tuple[Delivery, DeliveryAttempt, LoggedWebhook]] = []
        self._busy = False

    def put(self, delivery: Delivery) -> None:
        """Post it in its turn."""
        self._waiting.append(delivery)
        if not self._busy:
            self._busy = True
            self._deliveries.spawn(self._drain())

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._post(self._waiting.popleft())
        finally:
            self._busy = False

    async def _post(self, delivery: Delivery) -> None:
        deliveries = self._deliveries
        seen = deliveries.seen(delivery)
        overtaken, self._held = self._held, []
        for posting in deliveries.fate(delivery):
            if posting.after_next and not delivery.terminal:
                self._held.append((delivery, posting, seen))
            elif posting.delay > 0:
                deliveries.spawn(deliveries.deliver_late(delivery, posting, seen))
            else:
                await deliveries.deliver(delivery, posting, seen)
        for each in overtaken:
            await deliveries.deliver(*each)
