"""Submission: what a service hands over to have a generation made.

Hashes of inputs are keyed, so that whoever has a copy of the store cannot try out guesses.
"""

import hmac
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from msgspec import Struct, field

from mediagate_server.errors import DeadlineTooShort
from mediagate_server.generations.dependencies import MIN_RUN_SECONDS
from mediagate_server.runtime import identifiers


def keyed_hash(key: bytes, content: bytes) -> str:
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
    return keyed_hash(key, canonical)


@lru_cache(maxsize=8)
def _begun(key: bytes) -> hmac.HMAC:
    """The hash of nothing under a key. To begin one costs more than a short hash."""
    return hmac.new(key, digestmod="sha256")


class Submission(Struct, frozen=True):
    """One paid call, checked and ready to be bound. Durations in seconds.

    `fingerprint` tells two requests apart that came with the same request_id.
    `cancel_on_disconnect` is the contract's on_disconnect. `is_server_generated_id`: the request_id
    was made here just now, so that nothing can be bound to it yet. `webhook_url` is told of the
    end; empty: nobody is. `request` is what is to be stored of it. `reuse_key` is the same for all
    requests that ask for the same thing; where an earlier one of at most `reuse_within` has
    succeeded, its generation is the answer.
    """

    tenant: str
    method: str
    request_id: str
    fingerprint: str
    timeout: float
    cancel_on_disconnect: bool = True
    grace: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    is_server_generated_id: bool = False
    webhook_url: str = ""
    request: bytes | None = None
    reuse_key: str = ""
    reuse_within: float = 0.0

    def __post_init__(self) -> None:
        if self.timeout < MIN_RUN_SECONDS:
            raise DeadlineTooShort(
                f"timeout must be at least {MIN_RUN_SECONDS:g} s",
                metadata={"timeout": f"{self.timeout:g}", "shortest": f"{MIN_RUN_SECONDS:g}"},
            )


def canonical_request_id(asked: str) -> str:
    """A request_id as it is bound: every way to write a UUID is the same one. Empty: drawn here."""
    return str(UUID(asked)) if asked else identifiers.new_uuid()
