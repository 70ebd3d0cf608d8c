"""How handlers answer: JSON, written by orjson, the way every endpoint of the sandbox does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web


def respond_json(
    document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON answer; dataclasses and times in it are written out."""
    option = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
    return web.Response(
        body=orjson.dumps(document, option=option),
        status=status,
        content_type="application/json",
        headers=headers,
    )
