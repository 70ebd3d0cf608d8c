"""Parsing and validation of create requests.

All checks before a prediction is accepted are here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from mediagate_sandbox.api_errors import (
    ApiError,
    InvalidField,
    bad_request,
    invalid_input,
    invalid_version,
    not_found,
)
from mediagate_sandbox.models import Catalog, Model
from mediagate_sandbox.predictions import PredictionRequest
from mediagate_sandbox.prefer_headers import parse_cancel_after
from mediagate_sandbox.prompt_directives import DirectiveError, PromptDirectives, parse_directives
from mediagate_sandbox.run_limit import with_run_limit
from mediagate_sandbox.run_script import RunScript, RunScriptBuilder, ScriptStep, TimeSpan
from mediagate_sandbox.settings import SandboxSettings
from mediagate_sandbox.validation import input_errors, json_type, webhook_errors

_VERSION = re.compile(r"[0-9a-f]{64}")
_WEBHOOK_EVENTS = ("start", "output", "logs", "completed")
_BODY_FIELDS = {
    "input": "object",
    "webhook": "string",
    "webhook_events_filter": "array",
    "stream": "boolean",
}
_NO_VERSION = (
    "The specified version does not exist, or it may not be run this way "
    "(community models need the 64 digit id of a version)."
)


@dataclass(frozen=True, slots=True)
class Target:
    """Target of a create: a model, by itself or of a deployment."""

    model: Model
    deployment: str | None = None


class CreateRequestParser:
    """Parser of create requests."""

    def __init__(self, settings: SandboxSettings, catalog: Catalog) -> None:
        """Create a parser; no model is warm yet."""
        self._settings = settings
        self._catalog = catalog
        self._script_builder = RunScriptBuilder(settings)
        self._booted: set[str] = set()

    def with_catalog(self, catalog: Catalog) -> CreateRequestParser:
        """Return the same parser with another catalog; warm models stay warm."""
        parser = CreateRequestParser(self._settings, catalog)
        parser._booted = self._booted
        return parser

    def reset_warm_models(self) -> None:
        """Make all models cold."""
        self._booted.clear()

    def official(self, slug: str) -> Target:
        """Return the target of `/models/{owner}/{name}/predictions`. Raises ApiError (404)."""
        model = self._catalog.by_slug(slug)
        if model is None or not model.official:
            raise not_found()
        return Target(model)

    def deployment(self, name: str) -> Target:
        """Return the target of `/deployments/{owner}/{name}/predictions`. Raises ApiError (404)."""
        slug = self._settings.deployments.get(name)
        model = self._catalog.by_slug(slug) if slug is not None else None
        if model is None:
            raise not_found()
        return Target(model, deployment=name)

    def parse(
        self, raw: bytes, target: Target | None, cancel_after: str | None, now: datetime
    ) -> PredictionRequest:
        """Parse a create's body. Without a target the body has a `version`.

        Raises ApiError: 400 for a body that is not JSON, 422 for one that does not fit.
        """
        body = _read_body(raw, with_version=target is None)
        if target is None:
            target = Target(self._by_version(body["version"]))
        model, given = target.model, body["input"]
        faults = input_errors(model, given, refuse_unknown=self._settings.refuse_unknown_inputs)
        if faults:
            raise invalid_input(faults)
        faults = webhook_errors(body.get("webhook"), anywhere=self._settings.webhooks_over_http)
        if faults:
            raise invalid_input(faults)
        seconds = parse_cancel_after(cancel_after, self._settings.min_cancel_after)
        events = body.get("webhook_events_filter")
        return PredictionRequest(
            model=model,
            input=given,
            script=self._script(model, given, cold=self._boots(model)),
            size=len(raw),
            deadline=None if seconds is None else now + timedelta(seconds=seconds),
            deployment=target.deployment,
            webhook=body.get("webhook"),
            webhook_events_filter=None if events is None else tuple(events),
        )

    def request_of(self, model: Model, given: dict[str, Any]) -> PredictionRequest:
        """Return the request of a run that nobody sent, on a valid input."""
        return PredictionRequest(model, given, self._script(model, given, cold=False))

    def _script(self, model: Model, given: Mapping[str, Any], *, cold: bool) -> RunScript:
        """Build the script of a run: inputs that the model does not name play no part in it."""
        known = {name: value for name, value in given.items() if name in model.inputs}
        script = self._script_builder.build(model, known, self._directives(known), cold=cold)
        unknown = [name for name in given if name not in model.inputs]
        if unknown:
            line = f"Stripped unknown input fields: {orjson.dumps(unknown).decode()}\n"
            script = replace(script, steps=(ScriptStep(TimeSpan(0, 0), logs=line), *script.steps))
        return with_run_limit(script, self._settings.run_limit)

    def _by_version(self, reference: str) -> Model:
        """Find the model of a `version`: 64 digits, `owner/name` or `owner/name:64 digits`."""
        slug, colon, version = reference.rpartition(":")
        if not colon:
            slug, version = ("", reference) if _VERSION.fullmatch(reference) else (reference, "")
        by_slug = not (colon or version)
        model = self._catalog.by_slug(slug) if by_slug else self._catalog.by_version(version)
        if model is None or (slug and model.slug != slug):
            raise invalid_version(_NO_VERSION)
        if not version and not model.official:
            raise invalid_version(_NO_VERSION)
        return model

    def _directives(self, given: Mapping[str, Any]) -> PromptDirectives:
        if not self._settings.directives:
            return PromptDirectives()
        try:
            return parse_directives(given)
        except DirectiveError as error:
            raise ApiError(422, str(error), title="Invalid sandbox directive") from None

    def _boots(self, model: Model) -> bool:
        cold = self._settings.cold_boots and not model.official and model.slug not in self._booted
        self._booted.add(model.slug)
        return cold


def _read_body(raw: bytes, *, with_version: bool) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise bad_request("The request body is not valid JSON.") from None
    if not isinstance(body, dict):
        expected = f"Invalid type. Expected: object, given: {json_type(body)}"
        raise invalid_input([InvalidField("invalid_type", "(root)", expected)])
    fields = {"version": "string", **_BODY_FIELDS} if with_version else _BODY_FIELDS
    faults = [
        InvalidField("required", "(root)", f"{name} is required")
        for name in ("version", "input")
        if name in fields and name not in body
    ]
    for name, value in body.items():
        faults += _field_faults(name, value, fields.get(name))
    if faults:
        raise invalid_input(faults)
    return body


def _field_faults(name: str, value: Any, expected: str | None) -> list[InvalidField]:
    if expected is None:
        text = f"Additional property {name} is not allowed"
        return [InvalidField("additional_property_not_allowed", "(root)", text)]
    given = json_type(value)
    if given != expected:
        text = f"Invalid type. Expected: {expected}, given: {given}"
        return [InvalidField("invalid_type", name, text)]
    if name == "webhook_events_filter" and not all(each in _WEBHOOK_EVENTS for each in value):
        allowed = ", ".join(f'"{each}"' for each in _WEBHOOK_EVENTS)
        text = f"{name} must only hold the following: {allowed}"
        return [InvalidField("enum", name, text)]
    return []
