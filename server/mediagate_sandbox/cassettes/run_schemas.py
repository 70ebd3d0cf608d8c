"""Schemas of recorded runs: which inputs are secret, and whether the output is text."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from mediagate_sandbox.cassettes.json_strings import parse_json, strings_in
from mediagate_sandbox.cassettes.redaction import schema_secrets
from mediagate_sandbox.cassettes.upstream_client import UpstreamClient

_PAUSES = (0.2, 1.0, 0.0)
"""Seconds after each attempt to read a schema that failed in passing."""
_HIDDEN = "hidden"
"""What a prediction of an official model says of its version."""


@dataclass(frozen=True, slots=True)
class RunSchema:
    """`components.schemas` of a model; None: it could not be read."""

    schemas: Mapping[str, Any] | None

    def secrets(self, given: Any) -> set[str]:
        """Return the secret strings of an input; all of them where the schema is not known."""
        if self.schemas is None:
            return set(filter(None, strings_in(given)))
        return schema_secrets(self.schemas, given)

    @property
    def is_text(self) -> bool:
        """Whether the output is text, so that a link in it is not one to a file."""
        output = (self.schemas or {}).get("Output")
        if not isinstance(output, dict):
            return False
        items = output.get("items") if output.get("type") == "array" else output
        is_string = isinstance(items, dict) and items.get("type") == "string"
        return is_string and "format" not in items  # type: ignore[operator]


UNKNOWN = RunSchema(None)


class SchemaReader:
    """Reads schemas from upstream, with the caller's own token, each once."""

    def __init__(self, client: UpstreamClient) -> None:
        """Create a reader that knows none yet."""
        self._client = client
        self._known: dict[tuple[str, str], RunSchema] = {}
        self._by_version: dict[str, RunSchema] = {}

    async def read(self, model: Any, version: Any, headers: Mapping[str, str]) -> RunSchema:
        """Return the schema of a model's version; without one of its latest."""
        model = model if isinstance(model, str) else ""
        pinned = version if isinstance(version, str) and version != _HIDDEN else ""
        if pinned in self._by_version:
            return self._by_version[pinned]
        if model.count("/") != 1:
            return UNKNOWN
        key = (model, pinned)
        if key not in self._known:
            schema = await self._read(model, pinned, headers)
            if schema.schemas is None and pinned:
                schema = await self._read(model, "", headers)
            if schema.schemas is None:
                return UNKNOWN
            self._known[key] = schema
            if pinned:
                self._by_version[pinned] = schema
        return self._known[key]

    async def of_deployment(self, name: str, headers: Mapping[str, str]) -> RunSchema:
        """Return the schema of what a deployment runs."""
        release = (await self._get(f"/v1/deployments/{quote(name)}", headers)).get(
            "current_release"
        )
        if not isinstance(release, dict):
            return UNKNOWN
        return await self.read(release.get("model"), release.get("version"), headers)

    async def _read(self, model: str, version: str, headers: Mapping[str, str]) -> RunSchema:
        path = f"/v1/models/{quote(model)}" + (f"/versions/{quote(version)}" if version else "")
        document = await self._get(path, headers)
        if not version:
            document = document.get("latest_version") or {}
        match document:
            case {"openapi_schema": {"components": {"schemas": dict() as schemas}}}:
                return RunSchema(schemas)
            case _:
                return UNKNOWN

    async def _get(self, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
        token = {k: v for k, v in headers.items() if k.lower() == "authorization"}
        for pause in _PAUSES:
            try:
                response = await self._client.send("GET", path, token)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(pause)
                continue
            document = parse_json(response.body)
            if response.status == 200 and isinstance(document, dict):
                return document
            if response.status != 429 and response.status < 500:
                break
            await asyncio.sleep(pause)
        return {}
