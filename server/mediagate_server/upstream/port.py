"""Upstream port: the protocol of a Replicate-compatible API and its types. No I/O."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any, Final, Protocol

from msgspec import Struct, field

from mediagate_server.upstream.large_values import LargeValue


def _no_op() -> None:
    """The default of `on_end`."""


class CreateReservation:
    """Reservation of the right to send one create: used when it is sent, or released.

    It ends once: by `use`, by `release`, or with its owner (garbage collected). `on_end` is called
    after `use` once the create has ended in whatever way: by `release_unused`, or likewise.
    """

    __slots__ = ("_loop", "_on_end", "_release", "_use")

    def __init__(
        self,
        use: Callable[[], None],
        release: Callable[[], None],
        on_end: Callable[[], None] = _no_op,
    ) -> None:
        self._use: Callable[[], None] | None = use
        self._release = release
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()

    def use(self) -> None:
        """The create is sent now. No-op where the reservation has ended."""
        if self._use is not None:
            use, self._use = self._use, None
            self._release = self._on_end
            use()

    def release(self) -> None:
        """The create is not sent: undo the reservation. No-op where it has ended."""
        if self._use is not None:
            self.release_unused()

    def release_unused(self) -> None:
        """End the reservation: released if it was not used; else its create has ended."""
        self._use = None
        end, self._release = self._release, _no_op
        end()

    def __del__(self) -> None:
        if self._release is _no_op:
            return
        if asyncio._get_running_loop() is self._loop:  # noqa: SLF001 - there is no public way
            self.release_unused()
            return
        # The collector runs in any thread; events and counts belong to the loop's.
        self._use = None
        with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            self._loop.call_soon_threadsafe(self._release)


MAX_OUTPUT_RESPONSE_BYTES: Final = 64 * 1024 * 1024
"""Largest response whose output is read, in bytes. Of a larger one all else is read."""


class PredictionStatus(StrEnum):
    """Status of a prediction. `aborted` ended before it started (free); `canceled` after."""

    STARTING = "starting"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    ABORTED = "aborted"
    UNKNOWN = "unknown"
    """An unknown word: never final, so the prediction is polled again."""

    @property
    def is_terminal(self) -> bool:
        """Whether it is one of the four final statuses."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {
        PredictionStatus.SUCCEEDED,
        PredictionStatus.FAILED,
        PredictionStatus.CANCELED,
        PredictionStatus.ABORTED,
    }
)
UNUSABLE_VALUE: Final = ""
"""Placeholder of a metric whose value was reported but cannot be used."""


class Prediction(Struct, frozen=True):
    """A prediction as upstream reported it last. Only `id` and `status` are always present.

    `metrics` holds numbers as Decimal of the JSON literal (or int), because money is computed from
    them. A value that is no number, string or bool, or is out of range, is UNUSABLE_VALUE: a cost
    based on it is unknown. None: metrics were reported and are unreadable, as if each were
    unusable. Integers in `input` and `output` are exact; NaN, infinities and what a double cannot
    hold are strings. Times are in UTC, within the range of a clock.
    `output_too_deep`: the output is nested too deep to be read, and `output` is None.
    `output` is a LargeValue where it is too large to be decoded; so is `large_logs`, of which
    `logs` has the beginning and the end.
    `web_url` is upstream's page about it, for people who are signed in there.
    `model` may be an internal name of Replicate's and is never shown to callers.
    """

    id: str
    status: PredictionStatus
    model: str = ""
    input: Mapping[str, Any] | None = None
    output: Any = None
    error: str | None = None
    logs: str = ""
    metrics: Mapping[str, Decimal | int | str | bool] | None = field(default_factory=dict)
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    data_removed: bool = False
    stream_url: str | None = None
    web_url: str = ""
    output_too_deep: bool = False
    large_logs: "LargeValue | None" = None


class CreateRequest(Struct, frozen=True):
    """Request to create a prediction, which costs money.

    `target` is `owner/name` (official model), `owner/name:version` (community model) or
    `deployments/owner/name`. `cancel_after` (seconds, at least 5) bounds what an orphan can cost.
    `may_send` is called once a connection is open, right before the first byte; False: the request
    is refused as UNREACHABLE, and nothing was sent.
    """

    target: str
    input: Mapping[str, Any]
    cancel_after: float
    webhook: str | None = None
    webhook_events: tuple[str, ...] = ()
    may_send: Callable[[], bool] | None = None


class RefusalReason(Enum):
    """Reason why a request was definitely not accepted."""

    UNREACHABLE = "unreachable"
    """No connection could be made: not a byte of the request was sent."""
    THROTTLED = "throttled"
    ACCOUNT = "account"
    """401, 402, 403: the operator's token or credit."""
    NOT_FOUND = "not_found"
    INPUT = "input"
    """400, 413, 422: upstream does not accept the input."""
    OTHER = "other"
    """Any other 4xx."""


class UpstreamError(Exception):
    """Base of the errors of requests to upstream."""


_GONE: Final = 410


class RequestRefused(UpstreamError):
    """Definitely not accepted: nothing runs, nothing is charged, a retry is safe.

    `invalid_fields` maps input names to upstream's description of the error. `retry_after` is what
    upstream asks for, up to a minute. `error` is the beginning of upstream's own text, to be
    classified and never shown. `was_slow`: the failure to connect took longer than a second.
    `per_minute`: the rate of creates that upstream says it grants now.
    """

    def __init__(
        self,
        refusal: RefusalReason,
        *,
        http_status: int | None = None,
        retry_after: float | None = None,
        invalid_fields: Mapping[str, str] | None = None,
        error: str = "",
        was_slow: bool = False,
        per_minute: int | None = None,
    ) -> None:
        super().__init__(f"upstream refused: {refusal.value} (http status {http_status})")
        self.refusal = refusal
        self.http_status = http_status
        self.retry_after = retry_after
        self.invalid_fields = dict(invalid_fields or {})
        self.error = error
        self.was_slow = was_slow
        self.per_minute = per_minute

    @property
    def is_not_found(self) -> bool:
        """Whether the resource does not exist (404), or not any more (410)."""
        return self.refusal is RefusalReason.NOT_FOUND or self.http_status == _GONE


class NoResponse(UpstreamError):
    """No usable response: timeout, reset, 408, 499, 5xx, or a 2xx that cannot be decoded.

    After a create this means that it is unconfirmed: the prediction may exist and cost money.
    `api_error`: the API itself reported an error (500 or 503 with its own JSON), not a proxy.
    """

    def __init__(
        self, cause: str, *, http_status: int | None = None, api_error: bool = False
    ) -> None:
        super().__init__(f"no readable answer from upstream: {cause}")
        self.cause = cause
        self.http_status = http_status
        self.api_error = api_error


class StreamLimitReached(UpstreamError):
    """The limit of open streams is reached: nothing was sent."""


class UnreadableResponse(NoResponse):
    """A response that cannot be read: a retry would probably bring the same.

    It says nothing about upstream's health, and is not retried immediately. `is_temporary`: it
    could not be read now (disk, worker), and may be later.
    """

    def __init__(
        self, cause: str, *, http_status: int | None = None, is_temporary: bool = False
    ) -> None:
        super().__init__(cause, http_status=http_status)
        self.is_temporary = is_temporary


class OutputEvent(Struct, frozen=True):
    """A piece of output: text or a link. `id` is empty where upstream sent none."""

    text: str
    id: str = ""


class DoneEvent(Struct, frozen=True):
    """End of the stream. `reason` is empty, `canceled` or `error`."""

    reason: str = ""


class ErrorEvent(Struct, frozen=True):
    """The run failed. `detail` is upstream's text, which is not for callers."""

    detail: str


StreamEvent = OutputEvent | DoneEvent | ErrorEvent
EventSink = Callable[[tuple[StreamEvent, ...]], bool]
"""Receives the events that one socket read completed (never empty). True: stop."""


class EventStream(Protocol):
    """An open event stream."""

    async def forward_to(self, take: EventSink) -> None:
        """Push events to `take` as they are read, until it returns True or upstream closes.

        Only a DoneEvent says that the stream was complete. Raises NoResponse where it broke. Call
        it once.
        """
        ...


class PredictionPage(Struct, frozen=True):
    """One page of the prediction list, newest first. `next_cursor` is None on the last."""

    predictions: tuple[Prediction, ...]
    next_cursor: str | None


class FileToUpload(Struct, frozen=True):
    """A file to upload. `content` yields it from its beginning at each call.

    `name` and `media_type` are ours: plain ASCII without quotes. `size` in bytes.
    """

    name: str
    media_type: str
    size: int
    content: Callable[[], AsyncIterator[bytes]]


class UploadedFile(Struct, frozen=True):
    """An uploaded file. `link` is the URL to give to a model as its input."""

    link: str
    expires_at: datetime | None


class PublishedVersion(Struct, frozen=True):
    """One version of a model. `schema` is its OpenAPI document; empty where there is none."""

    id: str
    schema: Mapping[str, Any] = field(default_factory=dict)


class PublishedModel(Struct, frozen=True):
    """A published model; `slug` is owner/name. `latest` is None where no version is published.

    `is_official` is None where its document does not say. `is_private`: only its owner may run it,
    and pays for its machine. `example_seconds` is the run time of its example; None: no example.
    """

    slug: str
    is_official: bool | None
    latest: PublishedVersion | None = None
    is_private: bool = False
    example_seconds: float | None = None


class PublishedDeployment(Struct, frozen=True):
    """A deployment: `name` (owner/name), model, version and hardware (a SKU)."""

    name: str
    model: str
    version: str
    hardware: str = ""


class Upstream(Protocol):
    """Any Replicate-compatible API. Every method raises RequestRefused or NoResponse, nothing else.

    `model` is the catalog's slug, never what a caller typed: metrics are labelled by it, and a
    circuit breaker uses it. The HTTP client ignores it, and `turn`.
    """

    async def create(
        self, request: CreateRequest, *, model: str, turn: CreateReservation | None
    ) -> Prediction:
        """Send exactly one POST, immediately. NoResponse leaves the create unconfirmed.

        `turn` is the reservation of the create, which the pacing decorator uses.
        """
        ...

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        """The current state of a prediction."""
        ...

    async def cancel(self, prediction_id: str, *, model: str) -> Prediction | None:
        """Cancel a prediction. None where it had ended already (any 4xx but those about the
        account or its rate), or where the response has no prediction: use `get` then.
        """
        ...

    async def list_predictions(
        self,
        *,
        cursor: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> PredictionPage:
        """One page of the account's predictions, newest first."""
        ...

    async def upload_file(self, file: FileToUpload) -> UploadedFile:
        """Upload a file for models to read. It is free, and upstream deletes it after a while."""
        ...

    async def webhook_secret(self) -> str:
        """The signing secret of the account's webhooks."""
        ...

    async def get_model(self, slug: str) -> PublishedModel:
        """A model by its slug (owner/name), with its latest version."""
        ...

    async def get_version(self, slug: str, version: str) -> PublishedVersion:
        """One version of a model."""
        ...

    async def get_deployment(self, name: str) -> PublishedDeployment:
        """A deployment by its name (owner/name)."""
        ...

    def stream(
        self, stream_url: str, *, last_event_id: str | None = None, model: str
    ) -> AbstractAsyncContextManager[EventStream]:
        """Open the stream once. NoResponse: not opened. RequestRefused: likewise, or `stream_url`
        is on a host that this upstream does not own. StreamLimitReached: too many are open.
        """
        ...
