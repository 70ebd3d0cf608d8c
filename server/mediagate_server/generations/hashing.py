"""Hashes of what was asked: keyed, so that who has a copy of the store cannot try out guesses."""

import hmac
from collections.abc import Mapping
from typing import Any

import orjson


def keyed(key: bytes, words: str) -> str:
    """The hash of some words, in hexadecimal."""
    return hmac.digest(key, words.encode(), "sha256").hex()


def input_hash(key: bytes, model_input: Mapping[str, Any]) -> str:
    """Of the input as canonical JSON: finds it again in upstream's list."""
    canonical = orjson.dumps(model_input, option=orjson.OPT_SORT_KEYS)
    return hmac.digest(key, canonical, "sha256").hex()
