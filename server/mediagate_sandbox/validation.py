"""Validation of a prediction's input by its model's schema.

The wording of faults is that of the JSON-schema checker Replicate answers with.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from yarl import URL

from mediagate_sandbox.api_errors import InvalidField
from mediagate_sandbox.models import InputField, Model

_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:.+", re.DOTALL)
_UNPRINTED = re.compile(r"[\x00-\x20\x7f]")
_JSON_TYPES = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "uri": "string",
    "strings": "array",
    "uris": "array",
    "array": "array",
    "object": "object",
    "secret": "string",
}


def input_errors(
    model: Model, given: Mapping[str, Any], *, refuse_unknown: bool
) -> list[InvalidField]:
    """Return the errors of the input `given`. A null counts as missing."""
    faults = [
        InvalidField("required", "input", f"{name} is required")
        for name, field in model.inputs.items()
        if field.required and given.get(name) is None
    ]
    for name, value in given.items():
        field = model.inputs.get(name)
        if field is not None and value is not None:
            faults += _value_faults(f"input.{name}", field, value)
        elif field is None and refuse_unknown:
            text = f"Additional property {name} is not allowed"
            faults.append(InvalidField("additional_property_not_allowed", "input", text))
    return faults


def webhook_errors(url: str | None, *, anywhere: bool) -> list[InvalidField]:
    """Return the errors of a webhook's URL: it must be https, or http on this machine.

    `anywhere` lets http go to any host.
    """
    if url is None:
        return []
    try:
        # A host in an encoding of its own is read only when it is asked for.
        scheme, host = URL(url).scheme, URL(url).host
    except ValueError:
        scheme, host = "", None
    if host is None or scheme not in ("http", "https") or _UNPRINTED.search(url):
        return [InvalidField("format", "webhook", "Does not match format 'uri'")]
    if scheme == "http" and not anywhere and not is_this_machine(host):
        return [InvalidField("format", "webhook", "Must be an HTTPS URL")]
    return []


def is_this_machine(host: str) -> bool:
    """Whether a URL's host is loopback."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _value_faults(where: str, field: InputField, value: Any) -> Iterator[InvalidField]:
    given = json_type(value)
    allowed_types = [_JSON_TYPES[each] for each in field.any_of or (field.type,)]
    if given not in allowed_types and not ("number" in allowed_types and given == "integer"):
        yield _wrong_type(where, "/".join(allowed_types), given)
        return
    yield from _text_faults(where, field, value)
    if field.type in ("strings", "uris"):
        for index, each in enumerate(value):
            if not isinstance(each, str):
                yield _wrong_type(f"{where}.{index}", "string", json_type(each))
            elif field.type == "uris" and not _URI.match(each):
                yield InvalidField("format", f"{where}.{index}", "Does not match format 'uri'")
    if field.enum and value not in field.enum:
        allowed = ", ".join(f'"{each}"' for each in field.enum)
        text = f"{where} must be one of the following: {allowed}"
        yield InvalidField("enum", where, text)
    if field.min is not None and value < field.min:
        text = f"Must be greater than or equal to {field.min:g}"
        yield InvalidField("number_gte", where, text)
    if field.max is not None and value > field.max:
        yield InvalidField("number_lte", where, f"Must be less than or equal to {field.max:g}")


def _text_faults(where: str, field: InputField, value: Any) -> Iterator[InvalidField]:
    if field.pattern is not None and not re.search(field.pattern, value):
        yield InvalidField("pattern", where, f"Does not match pattern '{field.pattern}'")
    if field.type == "uri" and not _URI.match(value):
        yield InvalidField("format", where, "Does not match format 'uri'")


def _wrong_type(where: str, expected: str, given: str) -> InvalidField:
    text = f"Invalid type. Expected: {expected}, given: {given}"
    return InvalidField("invalid_type", where, text)


def json_type(value: Any) -> str:
    """Return the JSON type of a value. A number without a fraction is an integer."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"
