"""Hashes of what was asked: keyed, so that who has a copy of the store cannot try out guesses."""

import hmac
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson


def keyed(key: bytes, content: bytes) -> str:
    """HMAC-SHA-256 in hexadecimal.

    Not by `hmac.digest`: that lets go of the interpreter's lock for the shortest content, and
    another thread takes it. Here it is held up to 2 KiB.
    """
    hashing = _begun(key).copy()
    hashing.update(content)
    return hashing.hexdigest()


def input_hash(key: bytes, model_input: Mapping[str, Any]) -> str:
    """Of the input as canonical JSON: finds it again in upstream's list."""
    canonical = orjson.dumps(model_input, option=orjson.OPT_SORT_KEYS)
    return keyed(key, canonical)


@lru_cache(maxsize=8)
def _begun(key: bytes) -> hmac.HMAC:
    """The hash of nothing under a key. To begin one costs more than a short hash."""
    return hmac.new(key, digestmod="sha256")
