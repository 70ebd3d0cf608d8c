"""Webhook delivery: signed, in order, no redirects, the terminal event retried.

A `DeliveryPolicy` decides on each delivery: normally it is sent once, and a fault plan may lose,
repeat, delay or forge it.
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
    """One delivery: events of a prediction for its webhook."""

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
        """Whether it is of the terminal event, and is therefore retried."""
        return "completed" in self.events


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One planned attempt of a delivery."""

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
    """Default delivery policy: each delivery is sent once."""
    return (DeliveryAttempt(),)


def retry_delays(span: float) -> tuple[float, ...]:
    """Return retry times in seconds after the first attempt: exponential, the last is `span`."""
    return tuple(span * (2**number - 1) / (2**_RETRIES - 1) for number in range(1, _RETRIES + 1))


class WebhookDeliverer:
    """Sends deliveries inside one task group."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        session: aiohttp.ClientSession,
        clock: Clock,
        signer: WebhookSigner,
        settings: SandboxSettings,
        request_log: RequestLog,
        policy: DeliveryPolicy = deliver_once,
    ) -> None:
        """Create a deliverer; tasks end with `group`, `session` is closed by its owner."""
        self._group = group
        self._session = session
        self._clock = clock
        self._signer = signer
        self._timeout = settings.webhook_timeout
        self._retries = retry_delays(settings.webhook_retry_span)
        self._request_log = request_log
        self.policy = policy
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in a task, until it ends or the sandbox stops."""
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Cancel running and queued deliveries, as a crash would."""
        for task in self._tasks:
            task.cancel()

    def log_delivery(self, delivery: Delivery) -> LoggedWebhook:
        """Add a delivery to the request log."""
        return self._request_log.webhook(
            LoggedWebhook(delivery.id, delivery.prediction, delivery.events, delivery.status)
        )

    async def deliver(
        self, delivery: Delivery, planned: DeliveryAttempt, log_entry: LoggedWebhook
    ) -> None:
        """Send a delivery; a terminal one is retried later if this fails."""
        if not await self._attempt(delivery, planned, log_entry) and delivery.terminal:
            self.spawn(self._retry(delivery, planned, log_entry))

    async def deliver_late(
        self, delivery: Delivery, planned: DeliveryAttempt, log_entry: LoggedWebhook
    ) -> None:
        """Send a delivery after its delay."""
        await self._clock.sleep_until(self._clock.monotonic() + planned.delay)
        await self.deliver(delivery, planned, log_entry)

    async def _retry(
        self, delivery: Delivery, planned: DeliveryAttempt, log_entry: LoggedWebhook
    ) -> None:
        begun = self._clock.monotonic()
        for delay in self._retries:
            await self._clock.sleep_until(begun + delay)
            if await self._attempt(delivery, planned, log_entry):
                return

    async def _attempt(
        self, delivery: Delivery, planned: DeliveryAttempt, log_entry: LoggedWebhook
    ) -> bool:
        """Send one request; return whether no retry is needed."""
        attempt = WebhookAttempt(self._clock.now())
        log_entry.attempts.append(attempt)
        if not await in_time(self._clock, self._timeout, self._request(delivery, planned, attempt)):
            attempt.outcome = "timeout"
        log.info("webhook %s: %s", "+".join(delivery.events), attempt.outcome)
        return isinstance(attempt.outcome, int) and attempt.outcome < _FIRST_FAILURE

    async def _request(
        self, delivery: Delivery, planned: DeliveryAttempt, attempt: WebhookAttempt
    ) -> None:
        body = delivery.body if planned.body is None else planned.body
        sign = self._signer.forged_headers if planned.forged else self._signer.headers
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
    """Delivery queue of one prediction: each is sent after the response to the one before."""

    def __init__(self, deliverer: WebhookDeliverer) -> None:
        """Create an empty queue."""
        self._deliverer = deliverer
        self._waiting: deque[Delivery] = deque()
        self._overtaken: list[tuple[Delivery, DeliveryAttempt, LoggedWebhook]] = []
        self._busy = False

    def put(self, delivery: Delivery) -> None:
        """Add a delivery to the queue."""
        self._waiting.append(delivery)
        if not self._busy:
            self._busy = True
            self._deliverer.spawn(self._drain())

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._post(self._waiting.popleft())
        finally:
            self._busy = False

    async def _post(self, delivery: Delivery) -> None:
        deliverer = self._deliverer
        log_entry = deliverer.log_delivery(delivery)
        overtaken, self._overtaken = self._overtaken, []
        for planned in deliverer.policy(delivery):
            if planned.after_next and not delivery.terminal:
                self._overtaken.append((delivery, planned, log_entry))
            elif planned.delay > 0:
                deliverer.spawn(deliverer.deliver_late(delivery, planned, log_entry))
            else:
                await deliverer.deliver(delivery, planned, log_entry)
        for each in overtaken:
            await deliverer.deliver(*each)
