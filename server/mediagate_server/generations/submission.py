"""What a service hands over to have something made."""

from collections.abc import Mapping
from uuid import UUID

from msgspec import Struct, field

from mediagate_server import identifiers
from mediagate_server.errors import DeadlineTooShort
from mediagate_server.generations.doors import SHORTEST_RUN


class Submission(Struct, frozen=True):
    """One paid call, checked and ready to be bound. Durations in seconds.

    `fingerprint` tells two requests apart that came with the same request_id. `cancel_on_leaving`
    is the contract's on_disconnect. `drawn`: the request_id was drawn here just now, so that
    nothing can be bound to it yet. `webhook_url` is told of the end; empty: nobody is.
    `request` is what is to be stored of it. `likeness` is the same for all requests that ask for
    the same thing; where an earlier one of at most `reuse_within` has succeeded, its generation is
    the answer.
    """

    tenant: str
    method: str
    request_id: str
    fingerprint: str
    timeout: float
    cancel_on_leaving: bool = True
    grace: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    drawn: bool = False
    webhook_url: str = ""
    request: bytes | None = None
    likeness: str = ""
    reuse_within: float = 0.0

    def __post_init__(self) -> None:
        if self.timeout < SHORTEST_RUN:
            raise DeadlineTooShort(
                f"timeout must be at least {SHORTEST_RUN:g} s",
                metadata={"timeout": f"{self.timeout:g}", "shortest": f"{SHORTEST_RUN:g}"},
            )


def canonical_request_id(asked: str) -> str:
    """A request_id as it is bound: every way to write a UUID is the same one. Empty: drawn here."""
    return str(UUID(asked)) if asked else identifiers.uuid()
