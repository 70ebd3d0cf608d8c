"""Holds answers against an OpenAPI document: found by method and path, judged by `jsonschema`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from yarl import URL

from .sandbox_client import Answer

_FORMATS = FormatChecker(formats=())
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_PROBLEM_KEYS = {"title", "detail", "status", "invalid_fields", "retry_after", "type", "instance"}


@_FORMATS.checks("date-time")
def _is_moment(value: object) -> bool:
    if not isinstance(value, str):
        return True
    return bool(_DATE_TIME.fullmatch(value)) and datetime.fromisoformat(value).tzinfo is not None


@_FORMATS.checks("uri")
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or URL(value).scheme in ("http", "https")


class Description:
    """One OpenAPI document, as a judge of answers."""

    def __init__(self, document: Any) -> None:
        self._document = _plain(document)
        self._paths = [
            (re.compile("/v1" + re.sub(r"\{\w+\}", "[^/]+", path)), path, operations)
            for path, operations in self._document["paths"].items()
        ]
        # A path without parameters goes before one that has some.
        self._paths.sort(key=lambda entry: entry[1].count("{"))
        self.judged: set[tuple[str, str, int]] = set()
        """Method, path and status of every described answer that was looked at."""

    def described(self) -> set[tuple[str, str, int]]:
        """Method, path and status of every answer there is a description of."""
        return {
            (method.upper(), path, int(status))
            for _, path, operations in self._paths
            for method, operation in operations.items()
            if isinstance(operation, dict)
            for status in operation.get("responses", ())
        }

    def misfits(self, method: str, url: str, answer: Answer) -> list[str]:
        """What is wrong with an answer, in words."""
        path, operation = self._operation(method, url)
        where = f"{method} {path or url} {answer.status}"
        if path is None or str(answer.status) not in operation["responses"]:
            return [f"{where}: {each}" for each in _problem_misfits(answer)]
        self.judged.add((method, path, answer.status))
        content = operation["responses"][str(answer.status)].get("content")
        return [f"{where}: {each}" for each in self._content_misfits(content, answer)]

    def of_prediction(self, document: Any) -> list[str]:
        """What is wrong with a prediction that came in some other way."""
        reference = {"$ref": "#/components/schemas/schemas_prediction_response"}
        return list(self._schema_misfits(reference, document))

    def _operation(self, method: str, url: str) -> tuple[str | None, Any]:
        for pattern, path, operations in self._paths:
            if pattern.fullmatch(URL(url).raw_path) and method.lower() in operations:
                return path, operations[method.lower()]
        return None, None

    def _content_misfits(self, content: Any, answer: Answer) -> Iterator[str]:
        if content is None:
            return
        kind = answer.headers["Content-Type"].partition(";")[0]
        if "application/octet-stream" in content:
            return
        if kind not in content:
            # Errors of the search are described as plain JSON, the others as problems.
            if answer.status < 400:
                yield f"content type {kind}"
                return
            yield from _problem_misfits(answer)
            (kind,) = content
        body = answer.body.decode() if kind == "text/plain" else answer.json
        yield from self._schema_misfits(content[kind]["schema"], body)

    def _schema_misfits(self, schema: Any, value: Any) -> Iterator[str]:
        full_schema = {**schema, "components": self._document["components"]}
        validator = Draft202012Validator(full_schema, format_checker=_FORMATS)
        for error in validator.iter_errors(value):
            yield f"{error.json_path}: {error.message[:200]}"


def _problem_misfits(answer: Answer) -> Iterator[str]:
    """What the document does not describe must be a refusal, as Replicate was seen to word them."""
    if answer.status < 400:
        yield "not described"
        return
    if not answer.headers["Content-Type"].startswith("application/problem+json"):
        yield f"content type {answer.headers['Content-Type']}"
        return
    body = answer.json
    if not set(body) <= _PROBLEM_KEYS:
        yield f"keys {sorted(body)}"
    if not isinstance(body.get("detail"), str) or not body["detail"]:
        yield "no detail"
    if body.get("status") != answer.status:
        yield f"status {body.get('status')}"


def _plain(node: Any) -> Any:
    """The document in plain JSON Schema, as it was meant.

    `nullable` is of an older OpenAPI and becomes a type. The one `oneOf` parts any string from the
    string `hidden`, which is both: it becomes `anyOf`.
    """
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    changed = {"anyOf" if name == "oneOf" else name: _plain(each) for name, each in node.items()}
    if changed.get("nullable") is True and isinstance(changed.get("type"), str):
        changed["type"] = [changed["type"], "null"]
    return changed
