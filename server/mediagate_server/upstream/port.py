"""The port: what the server needs of an upstream, in our own words.

Everything above this room speaks these types. Nothing here does I/O.

Reservation of the right to send one create: used when it is sent, or given back.
"""

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
    """What most turns do once their create is over."""


class CreateReservation:
    """One reservation, which ends once: by `use`, by `release`, or with whoever held it.

    While it is held nobody else has what is reserved; what `use` does counts from then on. `on_end`
    is done after `use`, once the create has ended in whatever way: by `release_unused`, or likewise
    with whoever held it.
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
        """It is sent now. Nothing where the reservation has ended."""
        if self._use is not None:
            use, self._use = self._use, None
            self._release = self._on_end
            use()

    def release(self) -> None:
        """It is not sent: things are as if it had never been reserved. Nothing after the end."""
        if self._use is not None:
            self.release_unused()

    def release_unused(self) -> None:
        """The create that it was for has ended; one that was not sent is given back."""
        self._use = None
        end, self._release = self._release, _no_op
        end()

    def __del__(self) -> None:
        if self._release is _no_op:
            return
        if asyncio._get_running_loop() is self._loop:  # noqa: SLF001 - there is no other question
            self.release_unused()
            return
        # Garbage is collected in any thread, and events and counts are the loop's alone.
        self._use = None
        with suppress(RuntimeError):  # The loop is closed: nobody waits for it any more.
            self._loop.call_soon_threadsafe(self._release)


MAX_OUTPUTS_KEPT: Final = 64 * 1024 * 1024
"""Bytes of an answer whose output is kept. Of a larger one all is read but the output."""


class PredictionStatus(StrEnum):
    """Where a prediction stands. `aborted` ended before it started (free); `canceled` after."""

    STARTING = "starting"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    ABORTED = "aborted"
    UNKNOWN = "unknown"
    """A word we do not know: never an end, so the prediction is asked again."""

    @property
    def is_terminal(self) -> bool:
        """True for the four proofs of an end."""
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
"""Stands in the metrics for a value that was told and that nothing can be reckoned with."""


class Prediction(Struct, frozen=True):
    """One prediction as last told by upstream. Only `id` and `status` are sure to be there.

    `metrics` holds numbers as Decimal of the JSON literal (or int), because money is computed
    from them. What was told and is no number, string or bool, or more than can be held, is
    UNUSABLE: a cost that goes by it is unknown. None: they were told, and none can be read, which
    is as if each were UNUSABLE. Integers in `input` and `output` are exact; NaN,
    infinities and what a double cannot hold are texts. Times are in UTC, and possible.
    `output_too_deep`: it is nested deeper than is read, and `output` is None.
    `output` is a LargeValue where it is too large to be decoded; so are `large_logs`, of which
    `logs` has both ends.
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
    """One paid create.

    `target` is `owner/name` (official model), `owner/name:version` (community model) or
    `deployments/owner/name`. `cancel_after` (seconds, at least 5) bounds what an orphan can cost.
    `may_send` is asked once a connection is there, right before the first byte; False: the request
    is Refused UNREACHABLE, and nothing was sent.
    """

    target: str
    input: Mapping[str, Any]
    cancel_after: float
    webhook: str | None = None
    webhook_events: tuple[str, ...] = ()
    may_send: Callable[[], bool] | None = None


class RefusalReason(Enum):
    """Why a request was definitely not taken."""

    UNREACHABLE = "unreachable"
    """No connection came about: not a byte of the request was sent."""
    THROTTLED = "throttled"
    ACCOUNT = "account"
    """401, 402, 403: the operator's token or credit."""
    NOT_FOUND = "not_found"
    INPUT = "input"
    """400, 413, 422: upstream does not accept what we sent."""
    OTHER = "other"
    """Any other 4xx."""


class UpstreamError(Exception):
    """Base of what a request to upstream can end in besides an answer."""


_GONE: Final = 410


class RequestRefused(UpstreamError):
    """Definitely not taken: nothing runs, nothing is charged, sending anew is safe.

    `invalid_fields` maps input names to upstream's description of what is wrong with them.
    `retry_after` is what upstream asks for, up to a minute. `error` is the beginning of upstream's
    own text, to be classified and never shown. `was_slow`: it took longer than a second to find
    out that no connection comes about. `per_minute`: how many creates upstream says that it grants
    now.
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
        """Whether what was asked for is not there (404), or not there any more (410)."""
        return self.refusal is RefusalReason.NOT_FOUND or self.http_status == _GONE


class NoResponse(UpstreamError):
    """No readable answer: timeout, reset, 408, 499, 5xx, or a 2xx that cannot be understood.

    After a create this means doubt: the prediction may exist and cost money. `api_error`: the API
    itself said that it failed (a 500 or 503 with its own JSON), not something on the way to it.
    """

    def __init__(
        self, cause: str, *, http_status: int | None = None, api_error: bool = False
    ) -> None:
        super().__init__(f"no readable answer from upstream: {cause}")
        self.cause = cause
        self.http_status = http_status
        self.api_error = api_error


class StreamLimitReached(UpstreamError):
    """As many streams are open as may be: nothing was asked of upstream."""


class UnreadableResponse(NoResponse):
    """An answer that is there, and that nothing can read: the next one may be the same.

    It says nothing of upstream's health, and is not asked for again at once. `is_temporary`: nobody
    could look at it now, and later somebody may.
    """

    def __init__(
        self, cause: str, *, http_status: int | None = None, is_temporary: bool = False
    ) -> None:
        super().__init__(cause, http_status=http_status)
        self.is_temporary = is_temporary


class OutputEvent(Struct, frozen=True):
    """Text (or a link) that the model put out. `id` is empty where upstream sent none."""

    text: str
    id: str = ""


class DoneEvent(Struct, frozen=True):
    """Upstream says that the stream is over. `reason` is empty, `canceled` or `error`."""

    reason: str = ""


class ErrorEvent(Struct, frozen=True):
    """Upstream says that the run failed. `detail` is upstream's text: not for callers."""

    detail: str


StreamEvent = OutputEvent | DoneEvent | ErrorEvent
EventSink = Callable[[tuple[StreamEvent, ...]], bool]
"""Gets what one socket read completed (never empty). True: nothing more is wanted."""


class EventStream(Protocol):
    """A stream that is open."""

    async def forward_to(self, take: EventSink) -> None:
        """Hand on what comes as soon as it is read, until `take` has enough or upstream closes.

        Whether it was whole only its events tell. NoResponse: it broke. To be called once.
        """
        ...


class PredictionPage(Struct, frozen=True):
    """One page of the prediction list, newest first. `next_cursor` is None on the last."""

    predictions: tuple[Prediction, ...]
    next_cursor: str | None


class FileToUpload(Struct, frozen=True):
    """A file for models. `content` gives it from its beginning, each time that it is called.

    `name` and `media_type` are ours: plain ASCII without quotes. `size` in bytes.
    """

    name: str
    media_type: str
    size: int
    content: Callable[[], AsyncIterator[bytes]]


class UploadedFile(Struct, frozen=True):
    """A file that upstream holds. `link` is what a model is given as its input."""

    link: str
    expires_at: datetime | None


class PublishedVersion(Struct, frozen=True):
    """One version of a model. `schema` is its OpenAPI document; empty where there is none."""

    id: str
    schema: Mapping[str, Any] = field(default_factory=dict)


class PublishedModel(Struct, frozen=True):
    """A model, `slug` being owner/name. `latest` is None where no version is published.

    `is_official` is None where its document does not say. `is_private`: only its owner may run it,
    and pays for the machine it stands on. `example_seconds` is how long the run shown as its
    example took; None where there is none.
    """

    slug: str
    is_official: bool | None
    latest: PublishedVersion | None = None
    is_private: bool = False
    example_seconds: float | None = None


class PublishedDeployment(Struct, frozen=True):
    """A deployment, `name` being owner/name: what it runs, and on which hardware (a SKU)."""

    name: str
    model: str
    version: str
    hardware: str = ""


class Upstream(Protocol):
    """Any Replicate-compatible API. Every method raises RequestRefused or NoResponse, nothing else.

    `model` is the catalog's slug, never what a caller typed: metrics are labelled by it, and a
    circuit breaker goes by it. The client that sends makes nothing of it, nor of `turn`.
    """

    async def create(
        self, request: CreateRequest, *, model: str, turn: CreateReservation | None
    ) -> Prediction:
        """Send exactly one POST, at once. NoResponse leaves it in doubt.

        `turn` is the reserved right to send it, which is used up by whoever keeps the rate.
        """
        ...

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        """The prediction as it stands."""
        ...

    async def cancel(self, prediction_id: str, *, model: str) -> Prediction | None:
        """Ask for the end. None where upstream says that it had ended already (any 4xx but
        those about the account or its rate), or does not say how it stands: `get` tells.
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
        """Hand a file over, for models to read. It costs nothing and upstream forgets it."""
        ...

    async def webhook_secret(self) -> str:
        """The secret that the account's webhooks are signed with now."""
        ...

    async def get_model(self, slug: str) -> PublishedModel:
        """A model, `slug` being owner/name, with its latest version."""
        ...

    async def get_version(self, slug: str, version: str) -> PublishedVersion:
        """One version of a model."""
        ...

    async def get_deployment(self, name: str) -> PublishedDeployment:
        """What a deployment, `name` being owner/name, runs."""
        ...

    def stream(
        self, stream_url: str, *, last_event_id: str | None = None, model: str
    ) -> AbstractAsyncContextManager[EventStream]:
        """Open the stream once. NoResponse: not opened. RequestRefused: likewise, or `stream_url`
        is on a host that this upstream does not own. StreamLimitReached: too many are open.
        """
        ...
