"""Cache of small compiled schemas, by their text: a caller sends the same one again and again.

Bounded in number and in the length of a text, and so in memory. Only what may be compiled in any
process is in it.
"""

import json
from functools import lru_cache
from typing import Final

from mediagate_server.catalog.schema import Schema
from mediagate_server.catalog.schema_size import harmless_steps

_MOST: Final = 64
_LONGEST: Final = 4 * 1024
"""Characters of a schema that is kept."""


def harmless_schema(text: str) -> tuple[int, Schema] | None:
    """Steps and compiled form of a small plain schema; None where it is none. SchemaError."""
    return _cached(text) if len(text) <= _LONGEST else _compiled(text)


def _compiled(text: str) -> tuple[int, Schema] | None:
    document = json.loads(text)
    steps = harmless_steps(document)
    return None if steps is None else (steps, Schema(document))


_cached = lru_cache(_MOST)(_compiled)
