"""Request log for tests: creates, cancels, webhooks, requests with a token.

It holds no token, no prompt and no output: inputs appear as hashes, headers as yes or no.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from mediagate_sandbox.predictions import Happening, Prediction

_MOST_RECORDS = 10_000


@dataclass(frozen=True, slots=True)
class LoggedCreate:
    """One create."""

    prediction: str
    model: str
    input_sha256: str
    at: datetime


@dataclass(frozen=True, slots=True)
class LoggedCancel:
    """One cancel, with the prediction's status at that time."""

    prediction: str
    status_before: str
    at: datetime


@dataclass(slots=True)
class WebhookAttempt:
    """One request of a delivery."""

    at: datetime
    outcome: int | str | None = None
    """HTTP status, `timeout`, or the kind of failure; None while it is under way."""


@dataclass(frozen=True, slots=True)
class LoggedWebhook:
    """One delivery and its attempts; its URL may hold secrets and is not logged."""

    id: str
    prediction: str
    events: tuple[Happening, ...]
    status: str
    attempts: list[WebhookAttempt] = field(default_factory=list)


@dataclass(slots=True)
class LoggedAuthorization:
    """Count of requests with and without an Authorization header, by host and part."""

    with_header: int = 0
    without_header: int = 0


def input_sha256(given: Any) -> str:
    """Return the SHA-256 of an input's canonical JSON."""
    return hashlib.sha256(orjson.dumps(given, option=orjson.OPT_SORT_KEYS)).hexdigest()


class RequestLog:
    """Log since the start or the last reset."""

    def __init__(self) -> None:
        """Create an empty log."""
        self.reset()

    def reset(self) -> None:
        """Clear the log."""
        self.creates: deque[LoggedCreate] = deque(maxlen=_MOST_RECORDS)
        self.cancels: deque[LoggedCancel] = deque(maxlen=_MOST_RECORDS)
        self.webhooks: deque[LoggedWebhook] = deque(maxlen=_MOST_RECORDS)
        self.gets: Counter[str] = Counter()
        self.streams: Counter[str] = Counter()
        self.runs_by_model: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.authorization: dict[tuple[str, str], LoggedAuthorization] = {}
        self.malformed = 0
        """Requests that are no HTTP."""

    def request(self, host: str, method: str, route: str, *, authorized: bool) -> None:
        """Log a request; `route` is the route pattern, never the path itself."""
        self.requests[f"{method} {route}"] += 1
        seen = self.authorization.setdefault((host, _part(route)), LoggedAuthorization())
        if authorized:
            seen.with_header += 1
        else:
            seen.without_header += 1

    def create(self, prediction: Prediction, now: datetime) -> None:
        """Log a create."""
        slug = prediction.request.model.slug
        self.runs_by_model[slug] += 1
        digest = input_sha256(prediction.request.input)
        self.creates.append(LoggedCreate(prediction.id, slug, digest, now))

    def cancel(self, prediction: Prediction, now: datetime) -> None:
        """Log a cancel."""
        self.cancels.append(LoggedCancel(prediction.id, prediction.status, now))

    def webhook(self, seen: LoggedWebhook) -> LoggedWebhook:
        """Log a delivery; its attempts are added to this entry."""
        self.webhooks.append(seen)
        return seen

    def document(self) -> dict[str, Any]:
        """Return the log as JSON for `GET /sandbox/state`."""
        return {
            "creates": {
                "total": sum(self.runs_by_model.values()),
                "by_model": dict(self.runs_by_model),
                "by_input_sha256": Counter(each.input_sha256 for each in self.creates),
                "list": list(self.creates),
            },
            "cancels": list(self.cancels),
            "webhooks": list(self.webhooks),
            "gets_by_prediction": dict(self.gets),
            "streams_by_prediction": dict(self.streams),
            "requests": dict(self.requests),
            "malformed_requests": self.malformed,
            "authorization": [
                {
                    "host": host,
                    "part": part,
                    "with_header": seen.with_header,
                    "without_header": seen.without_header,
                }
                for (host, part), seen in self.authorization.items()
            ],
        }


def _part(route: str) -> str:
    """Return the part of the server of a route: API, streams, files or the rest."""
    if route == "/v1/files/{key}":
        return "/v1/streams"
    for part in ("/v1/streams", "/v1", "/files", "/sandbox"):
        if route == part or route.startswith(part + "/"):
            return part
    return "/"
