"""Fault actions: one class each, with its parameters and endpoints.

A class's `do` is its name in a plan, `on` the endpoints it can strike. Fields carry the check of
their value; a field without a default must be given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mediagate_sandbox.faults import value_checks

Endpoint = Literal[
    "create", "get", "cancel", "list", "stream", "files", "output", "webhook", "secret", "model"
]
"""`files` is the files API, `output` the download of one, `model` all that describes models:
their pages, versions, lists, searches and collections, and deployments."""

At = Literal["request", "answer"]
"""`request`: before anything is done. `answer`: it was done, and only the answer suffers."""

ENDPOINTS: tuple[Endpoint, ...] = (
    "create",
    "get",
    "cancel",
    "list",
    "stream",
    "files",
    "output",
    "webhook",
    "secret",
    "model",
)
_CALLED: tuple[Endpoint, ...] = tuple(each for each in ENDPOINTS if each != "webhook")
_ANSWERED: tuple[Endpoint, ...] = tuple(each for each in _CALLED if each != "stream")

_AT = {"check": value_checks.text_choice("request", "answer")}
_ENDS = ("succeeded", "failed", "canceled", "aborted")
_REDIRECTS = (300, 301, 302, 303, 307, 308)
"""The statuses that lead to `Location`; 304 leads nowhere, 305 and 306 are not used any more."""
_MOST_MS = 86_400_000
_MOST_BYTES = 2**31


def _checked(check: value_checks.Check, **more: Any) -> Any:
    return field(metadata={"check": check}, **more)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Resets the connection before the request is processed."""

    do: ClassVar[str] = "refuse"
    on: ClassVar[tuple[Endpoint, ...]] = _CALLED


@dataclass(frozen=True, slots=True)
class Delay:
    """Delays the response."""

    do: ClassVar[str] = "delay"
    on: ClassVar[tuple[Endpoint, ...]] = _CALLED
    ms: float = _checked(value_checks.number(0, _MOST_MS))
    at: At = field(default="request", metadata=_AT)


@dataclass(frozen=True, slots=True)
class Hang:
    """Never responds; the connection stays open until the caller closes it."""

    do: ClassVar[str] = "hang"
    on: ClassVar[tuple[Endpoint, ...]] = _CALLED
    at: At = field(default="request", metadata=_AT)


@dataclass(frozen=True, slots=True)
class Throttle:
    """Answers 429, with `Retry-After` and `retry_after` in the body if `retry_after` is given."""

    do: ClassVar[str] = "throttle"
    on: ClassVar[tuple[Endpoint, ...]] = _CALLED
    retry_after: int | None = _checked(value_checks.integer(0, 86_400), default=None)


@dataclass(frozen=True, slots=True)
class Error:
    """Answers with an error status; 502 and 504 are HTML, as from a proxy."""

    do: ClassVar[str] = "error"
    on: ClassVar[tuple[Endpoint, ...]] = _CALLED
    status: int = _checked(value_checks.integer(400, 599), default=500)
    at: At = field(default="request", metadata=_AT)


@dataclass(frozen=True, slots=True)
class AcceptLate:
    """Answers with an error status at once, and processes the request `ms` later."""

    do: ClassVar[str] = "accept_late"
    on: ClassVar[tuple[Endpoint, ...]] = ("create",)
    ms: float = _checked(value_checks.number(0, _MOST_MS))
    status: int = _checked(value_checks.integer(400, 599), default=500)


@dataclass(frozen=True, slots=True)
class ListLate:
    """Leaves the prediction out of lists until `ms` after its creation."""

    do: ClassVar[str] = "list_late"
    on: ClassVar[tuple[Endpoint, ...]] = ("create",)
    ms: float = _checked(value_checks.number(0, _MOST_MS))


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """Processes the request, then closes the connection without a response."""

    do: ClassVar[str] = "lose_answer"
    on: ClassVar[tuple[Endpoint, ...]] = _ANSWERED


@dataclass(frozen=True, slots=True)
class ResetBody:
    """Processes the request and resets the connection after so many bytes of the body."""

    do: ClassVar[str] = "reset_body"
    on: ClassVar[tuple[Endpoint, ...]] = _ANSWERED
    after_bytes: int = _checked(value_checks.integer(0, _MOST_BYTES), default=0)


@dataclass(frozen=True, slots=True)
class Redirect:
    """Responds with a redirect, without processing the request."""

    do: ClassVar[str] = "redirect"
    on: ClassVar[tuple[Endpoint, ...]] = _CALLED
    location: str = _checked(value_checks.url, default="https://elsewhere.example/")
    status: int = _checked(value_checks.integer_choice(*_REDIRECTS), default=302)


@dataclass(frozen=True, slots=True)
class Garbage:
    """Processes the request and responds with garbage.

    On a stream the noise comes between two events, once `after_bytes` bytes were sent, and the
    stream goes on. Noise is drawn from the seed unless `text` says what it is.
    """

    do: ClassVar[str] = "garbage"
    on: ClassVar[tuple[Endpoint, ...]] = _CALLED
    text: str | None = _checked(value_checks.text, default=None)
    after_bytes: int = _checked(value_checks.integer(0, _MOST_BYTES), default=0)


@dataclass(frozen=True, slots=True)
class CutStream:
    """Cuts a stream at a byte: the connection breaks, or `clean` ends the answer without done."""

    do: ClassVar[str] = "cut_stream"
    on: ClassVar[tuple[Endpoint, ...]] = ("stream",)
    after_bytes: int = _checked(value_checks.integer(0, _MOST_BYTES), default=0)
    how: Literal["abrupt", "clean"] = _checked(
        value_checks.text_choice("abrupt", "clean"), default="abrupt"
    )


@dataclass(frozen=True, slots=True)
class DuplicateId:
    """Creates a prediction, but responds with id and URLs of the one before it."""

    do: ClassVar[str] = "duplicate_id"
    on: ClassVar[tuple[Endpoint, ...]] = ("create",)


@dataclass(frozen=True, slots=True)
class Fail:
    """Fails the run with `error`; a text after `tokens` tokens."""

    do: ClassVar[str] = "fail"
    on: ClassVar[tuple[Endpoint, ...]] = ("create",)
    error: str | None = _checked(
        value_checks.optional_text, default="Prediction interrupted; please retry (code: PA)"
    )
    tokens: int = _checked(value_checks.integer(0, 100_000), default=0)


@dataclass(frozen=True, slots=True)
class Abort:
    """Ends the prediction as `aborted`, before it starts."""

    do: ClassVar[str] = "abort"
    on: ClassVar[tuple[Endpoint, ...]] = ("create",)


@dataclass(frozen=True, slots=True)
class EmptyOutput:
    """Lets the run succeed with empty output."""

    do: ClassVar[str] = "empty_output"
    on: ClassVar[tuple[Endpoint, ...]] = ("create",)


@dataclass(frozen=True, slots=True)
class ForeignOutput:
    """Points the output URLs at another host, which need not exist."""

    do: ClassVar[str] = "foreign_output"
    on: ClassVar[tuple[Endpoint, ...]] = ("create",)
    origin: str = _checked(value_checks.origin, default="https://elsewhere.example")


@dataclass(frozen=True, slots=True)
class DriftPrice:
    """Bills the prediction at list price times `factor`."""

    do: ClassVar[str] = "drift_price"
    on: ClassVar[tuple[Endpoint, ...]] = ("create",)
    factor: str = _checked(value_checks.factor)


@dataclass(frozen=True, slots=True)
class ChangeSchema:
    """Changes a model's schema: without `remove`, with `require` required."""

    do: ClassVar[str] = "change_schema"
    on: ClassVar[tuple[Endpoint, ...]] = ("create", "model")
    remove: tuple[str, ...] = _checked(value_checks.texts, default=())
    require: tuple[str, ...] = _checked(value_checks.texts, default=())


@dataclass(frozen=True, slots=True)
class RetireModel:
    """Removes the model."""

    do: ClassVar[str] = "retire_model"
    on: ClassVar[tuple[Endpoint, ...]] = ("create", "model")


@dataclass(frozen=True, slots=True)
class LoseWebhook:
    """Never sends the delivery, nor a retry."""

    do: ClassVar[str] = "lose_webhook"
    on: ClassVar[tuple[Endpoint, ...]] = ("webhook",)


@dataclass(frozen=True, slots=True)
class RepeatWebhook:
    """Sends the delivery `copies` times, with one id."""

    do: ClassVar[str] = "repeat_webhook"
    on: ClassVar[tuple[Endpoint, ...]] = ("webhook",)
    copies: int = _checked(value_checks.integer(2, 100), default=5)


@dataclass(frozen=True, slots=True)
class ReorderWebhooks:
    """Sends this delivery after the prediction's next one; the last is not delayed."""

    do: ClassVar[str] = "reorder_webhooks"
    on: ClassVar[tuple[Endpoint, ...]] = ("webhook",)


@dataclass(frozen=True, slots=True)
class DelayWebhook:
    """Delays the delivery; others are sent before it."""

    do: ClassVar[str] = "delay_webhook"
    on: ClassVar[tuple[Endpoint, ...]] = ("webhook",)
    ms: float = _checked(value_checks.number(0, _MOST_MS))


@dataclass(frozen=True, slots=True)
class ForgeWebhook:
    """Sends a forged delivery first: another end, signed with another secret.

    The lie is `status`, with no output. Under `instead` the true delivery is never posted.
    """

    do: ClassVar[str] = "forge_webhook"
    on: ClassVar[tuple[Endpoint, ...]] = ("webhook",)
    status: str = _checked(value_checks.text_choice(*_ENDS), default="failed")
    instead: bool = _checked(value_checks.as_bool, default=False)


Action = (
    Refuse
    | Delay
    | Hang
    | Throttle
    | Error
    | AcceptLate
    | ListLate
    | LoseAnswer
    | ResetBody
    | Redirect
    | Garbage
    | CutStream
    | DuplicateId
    | Fail
    | Abort
    | EmptyOutput
    | ForeignOutput
    | DriftPrice
    | ChangeSchema
    | RetireModel
    | LoseWebhook
    | RepeatWebhook
    | ReorderWebhooks
    | DelayWebhook
    | ForgeWebhook
)

ACTIONS: dict[str, type[Action]] = {each.do: each for each in Action.__args__}
