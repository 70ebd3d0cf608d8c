"""The port: what the gate needs of an upstream, in our own words.

Everything above this room speaks these types. Nothing here does I/O.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from msgspec import Struct, field

MOST_KEPT: Final = 64 * 1024 * 1024
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


UNUSABLE: Final = ""
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


class Refusal(Enum):
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


class Refused(UpstreamError):
    """Definitely not taken: nothing runs, nothing is charged, sending anew is safe.

    `invalid_fields` maps input names to upstream's description of what is wrong with them.
    `retry_after` is what upstream asks for, up to a minute. `error` is the beginning of upstream's
    own text, to be classified and never shown. `was_slow`: it took longer than a second to find
    out that no connection comes about. `per_minute`: how many creates upstream says that it grants
    now.
    """

    def __init__(
        self,
        refusal: Refusal,
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
    def is_absent(self) -> bool:
        """Whether what was asked for is not there (404), or not there any more (410)."""
        return self.refusal is Refusal.NOT_FOUND or self.http_status == _GONE


class NoAnswer(UpstreamError):
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


class UnreadableAnswer(NoAnswer):
    """An answer that is there, and that nothing can read: the next one may be the same.

    It says nothing of upstream's health, and is not asked for again at once. `is_passing`: nobody
    could look at it now, and later somebody may.
    """

    def __init__(
        self, cause: str, *, http_status: int | None = None, is_passing: bool = False
    ) -> None:
        super().__init__(cause, http_status=http_status)
        self.is_passing = is_passing


class ValueUnreadable(Exception):
    """A large value is none of its kind, or reading it took too much time or memory."""


class TextFile(Struct, frozen=True):
    """A text in a file: `size` in bytes of UTF-8. `begins_so`: as it was expected to begin."""

    size: int
    begins_so: bool


class MediumFound(Struct, frozen=True):
    """A medium in a value: a link or a short data URI; of a long one `uri` is the beginning, up to
    its comma, and `file` what was in it. `is_broken`: it could not be read. `is_file`: it is to be
    in a file of its own.
    """

    uri: str
    file: Path | None = None
    is_broken: bool = False
    is_file: bool = False


class ValueFile(Struct, frozen=True):
    """A value as JSON in a file: `size` in bytes, and the media that `media:N` stands for in it."""

    size: int
    media: tuple[MediumFound, ...]


class MediaPlaces(Struct, frozen=True):
    """Where media are in a value: `paths` of keys and steps, see `media_references.py`; `anywhere`:
    what looks like one is one in every other place, too. `typed`: it is the output of a model of
    media, where also a broken data URI is one, and one without its head.
    """

    paths: tuple[tuple[str | int, ...], ...]
    anywhere: bool
    typed: bool = False


class MediaOutline(Struct, frozen=True):
    """How many media there are in a value, and the value as JSON with `media:N` for each; None: it
    is too large for that. `media` are as in ValueFile, but that nothing lies in files.
    """

    count: int
    value: str | None
    media: tuple[MediumFound, ...]


class ExtractValues(Protocol):
    """Reads large values: see LargeValue."""

    async def write_text(
        self, value: "LargeValue", target: Path, prefix_size: int, prefix_sha256: str
    ) -> TextFile:
        """See LargeValue."""
        ...

    async def write_json(self, value: "LargeValue", target: Path, places: MediaPlaces) -> ValueFile:
        """See LargeValue."""
        ...

    async def outline_media(self, value: "LargeValue", places: MediaPlaces) -> MediaOutline:
        """See LargeValue."""
        ...


class LargeValue:
    """A value of an answer that is too large to be decoded: it lies in a file, as JSON.

    `is_over`: the answer is larger than what is kept of any. The file goes with the last
    reference to it.
    """

    def __init__(
        self,
        file: Any,
        begin: int,
        end: int,
        entries: int,
        extract: ExtractValues,
        *,
        is_over: bool = False,
    ) -> None:
        self.file = file
        self.begin = begin
        self.end = end
        self.entries = entries
        self.is_over = is_over
        self._extract = extract

    async def write_text(self, target: Path, *, prefix_size: int, prefix_sha256: str) -> TextFile:
        """Write it as UTF-8 into a new file; a list of texts as one. Raises ValueUnreadable.

        OSError where the disk does not take it, which says nothing of the value. The answer tells
        whether it begins with so many bytes of that SHA-256.
        """
        return await self._extract.write_text(self, target, prefix_size, prefix_sha256)

    async def write_json(self, target: Path, places: MediaPlaces) -> ValueFile:
        """Write it as it is into a new file, with its media lifted out; long data URIs into files
        beside it, whose names begin with the target's. Likewise.
        """
        return await self._extract.write_json(self, target, places)

    async def outline_media(self, places: MediaPlaces) -> MediaOutline:
        """The media that `write_json` would lift out, and what is left. Likewise."""
        return await self._extract.outline_media(self, places)


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

TakesEvents = Callable[[tuple[StreamEvent, ...]], bool]
"""Gets what one socket read completed (never empty). True: nothing more is wanted."""


class EventStream(Protocol):
    """A stream that is open."""

    async def into(self, take: TakesEvents) -> None:
        """Hand on what comes as soon as it is read, until `take` has enough or upstream closes.

        Whether it was whole only its events tell. NoAnswer: it broke. To be called once.
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
    """Any Replicate-compatible API. Every method raises Refused or NoAnswer, nothing else."""

    async def create(self, request: CreateRequest) -> Prediction:
        """Send exactly one POST. NoAnswer leaves it in doubt."""
        ...

    async def get(self, prediction_id: str) -> Prediction:
        """The prediction as it stands."""
        ...

    async def cancel(self, prediction_id: str) -> Prediction | None:
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
        self, stream_url: str, *, last_event_id: str | None = None
    ) -> AbstractAsyncContextManager[EventStream]:
        """Open the stream once. NoAnswer: not opened. Refused: likewise, or `stream_url` is on a
        host that this upstream does not own.
        """
        ...
