"""What a run needs from outside: the upstream with everything around it, and time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from mediagate_server.replicate.port import CreateRequest, Prediction, Refused, StreamEvent
from mediagate_server.store.port import Store


class UpstreamDoor(Protocol):
    """Replicate behind retry, breaker, pace and observation. `model` is the catalog's slug."""

    def try_admit(self, model: str) -> bool:
        """Take the right to one create if there is one now. Raises errors.CircuitOpen."""
        ...

    async def admit(self, model: str) -> None:
        """Wait for the right to one create. Raises errors.CircuitOpen."""
        ...

    async def create(self, request: CreateRequest, *, model: str) -> Prediction:
        """Exactly one POST. Raises Refused or NoAnswer."""
        ...

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        """The prediction as it stands. Raises Refused or NoAnswer."""
        ...

    async def cancel(self, prediction_id: str, *, model: str) -> Prediction | None:
        """Ask for the end. Raises Refused or NoAnswer."""
        ...

    def stream(
        self, stream_url: str, *, last_event_id: str | None = None, model: str
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[StreamEvent, ...]]]:
        """One opening of the stream. Raises Refused or NoAnswer."""
        ...


class CreatePolicy(Protocol):
    """When a refused create may be tried again, by a new attempt."""

    def delay_before_retry(self, refused: Refused, ordinal: int) -> float | None:
        """Seconds to wait before attempt `ordinal` + 1; None: that was the last."""
        ...


class Clock(Protocol):
    """Time, so that tests need not wait for it."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait until the event is set or the seconds are over; True where it is set."""
        ...


class SystemClock:
    """Real time."""

    def now(self) -> datetime:
        """See Clock."""
        return datetime.now(UTC)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """See Clock."""
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await event.wait()
        except TimeoutError:
            return event.is_set()
        return True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every run works with."""

    store: Store
    upstream: UpstreamDoor
    policy: CreatePolicy
    clock: Clock
