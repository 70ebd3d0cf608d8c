"""Upstreams for tests of one part of a life: whatever is not made for the test fails it."""

from contextlib import AbstractAsyncContextManager
from datetime import datetime

from mediagate_server.upstream.port import (
    CreateRequest,
    CreateReservation,
    EventStream,
    Prediction,
    PredictionPage,
)


def free_turn() -> CreateReservation:
    """A turn of an upstream that has as many as are asked for."""
    return CreateReservation(lambda: None, lambda: None)


class UnexpectedCallUpstream:
    """Implements doors.Upstream: nothing may be asked of it."""

    def try_admit(self, model: str) -> CreateReservation | None:
        raise AssertionError(model)

    async def admit(self, model: str, *, again: bool = False) -> CreateReservation:
        raise AssertionError(model)

    @property
    def backoff_seconds(self) -> float:
        return 0.0

    @property
    def creates_per_second(self) -> float | None:
        return None

    async def create(
        self, request: CreateRequest, *, model: str, turn: CreateReservation | None
    ) -> Prediction:
        raise AssertionError(model)

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        raise AssertionError(prediction_id)

    async def cancel(self, prediction_id: str, *, model: str) -> Prediction | None:
        raise AssertionError(prediction_id)

    async def list_predictions(
        self,
        *,
        cursor: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> PredictionPage:
        raise AssertionError(cursor)

    def stream(
        self, stream_url: str, *, last_event_id: str | None = None, model: str
    ) -> AbstractAsyncContextManager[EventStream]:
        raise AssertionError(stream_url)
