"""Upstreams for tests of one part of a life: whatever is not made for the test fails it."""

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from random import Random

from mediagate_server.upstream.policies.create_admission import CreateAdmission
from mediagate_server.upstream.policies.create_retry_policy import CreateRetryPolicy
from mediagate_server.upstream.port import (
    CreateRequest,
    CreateReservation,
    EventStream,
    FileToUpload,
    Prediction,
    PredictionPage,
    PublishedDeployment,
    PublishedModel,
    PublishedVersion,
    RequestRefused,
    UploadedFile,
    Upstream,
)


def free_turn() -> CreateReservation:
    """A turn of an upstream that has as many as are asked for."""
    return CreateReservation(lambda: None, lambda: None)


class UnexpectedCallUpstream(Upstream, CreateAdmission):
    """An account's API and its admission in one: nothing may be asked of it."""

    def __init__(self) -> None:
        """No breaker and no rate are needed: whoever admits overrides it."""

    def delay_before_retry(self, refused: RequestRefused, ordinal: int) -> float | None:
        return CreateRetryPolicy(Random(1)).delay_before_retry(refused, ordinal)

    def try_admit(self, model: str = "") -> CreateReservation | None:
        raise AssertionError(model)

    async def admit(self, model: str = "", *, again: bool = False) -> CreateReservation:
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

    async def upload_file(self, file: FileToUpload) -> UploadedFile:
        raise AssertionError(file)

    async def webhook_secret(self) -> str:
        raise AssertionError

    async def get_model(self, slug: str) -> PublishedModel:
        raise AssertionError(slug)

    async def get_version(self, slug: str, version: str) -> PublishedVersion:
        raise AssertionError(slug, version)

    async def get_deployment(self, name: str) -> PublishedDeployment:
        raise AssertionError(name)
