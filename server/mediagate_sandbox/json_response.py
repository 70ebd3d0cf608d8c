"""JSON responses of the sandbox's handlers, by orjson."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web


def respond_json(
    document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a JSON response; dataclasses and times are serialized."""
    option = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
    return web.Response(
        body=orjson.dumps(document, option=option),
        status=status,
        content_type="application/json",
        headers=headers,
    )
