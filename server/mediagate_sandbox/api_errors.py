"""API errors in Replicate's format: JSON with `detail`, often without `title`.

The middleware of authentication turns an `ApiError` into a response.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from aiohttp import web


@dataclass(frozen=True, slots=True)
class InvalidField:
    """One invalid field of a request body."""

    type: str
    """The kind of fault: `required`, `invalid_type`, `enum`, `number_gte`, ..."""
    field: str
    """Where: `input`, `input.max_tokens`, `(root)`."""
    description: str
    """What is wrong, in words."""


class ApiError(Exception):
    """Error response: HTTP status, `detail` and, for some, `title` and the invalid fields."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        title: str | None = None,
        invalid_fields: Sequence[InvalidField] = (),
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Create the error; nothing is sent yet."""
        super().__init__(f"{status} {title or detail}")
        self.status = status
        self.detail = detail
        self.title = title
        self.invalid_fields = tuple(invalid_fields)
        self.retry_after = retry_after
        self.headers = dict(headers or {})

    def document(self) -> dict[str, object]:
        """Return the JSON body."""
        document: dict[str, object] = {} if self.title is None else {"title": self.title}
        document |= {"detail": self.detail, "status": self.status}
        if self.retry_after is not None:
            document["retry_after"] = self.retry_after
        if self.invalid_fields:
            document["invalid_fields"] = [
                {"type": each.type, "field": each.field, "description": each.description}
                for each in self.invalid_fields
            ]
        return document

    def response(self) -> web.Response:
        """Return the response, as `application/problem+json`."""
        return web.Response(
            body=orjson.dumps(self.document()),
            status=self.status,
            content_type="application/problem+json",
            headers=self.headers,
        )


def unauthenticated() -> ApiError:
    """401: no token, or one that is not accepted."""
    return ApiError(401, "You did not pass a valid authentication token", title="Unauthenticated")


def insufficient_credit() -> ApiError:
    """402: the account has no credit."""
    detail = (
        "You have insufficient credit to run this model. "
        "Go to https://replicate.com/account/billing to purchase credit."
    )
    return ApiError(402, detail, title="Insufficient credit")


def throttled(reset: int, retry_after: int, why: str, headers: Mapping[str, str]) -> ApiError:
    """429: too many requests; the limit resets in `reset` seconds, `retry_after` lets one pass."""
    detail = f"Request was throttled. {why}Your rate limit resets in ~{reset}s."
    all_headers = {"Retry-After": str(retry_after), **headers}
    return ApiError(429, detail, retry_after=retry_after, headers=all_headers)


def not_found() -> ApiError:
    """404: no such model, prediction, deployment or path."""
    return ApiError(404, "The requested resource could not be found.")


def bad_request(detail: str) -> ApiError:
    """400: a query or body that cannot be parsed."""
    return ApiError(400, detail)


def invalid_version(reason: str) -> ApiError:
    """422: the version is unknown, or may not be run this way."""
    return ApiError(422, reason, title="Invalid version or not permitted")


def invalid_input(faults: Sequence[InvalidField]) -> ApiError:
    """422: the body does not match its schema; one line of `detail` per error."""
    lines = "".join(f"- {each.field}: {each.description}\n" for each in faults)
    return ApiError(422, lines, title="Input validation failed", invalid_fields=faults)


def invalid_header(name: str, reason: str) -> ApiError:
    """422: a request header has an invalid value."""
    return ApiError(422, f"{name}: {reason}", title="Invalid header")
