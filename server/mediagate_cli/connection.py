"""How commands reach a gate."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mediagate_cli.exits import ending_well

if TYPE_CHECKING:
    from mediagate_client import Client


@contextmanager
def gate_at(target: str, api_key: str, *, tls: bool) -> Iterator["Client"]:
    """Give a client of the gate; what goes wrong with it ends the command in one line."""
    quiet_grpc()
    from mediagate_client import Client

    with ending_well(target), Client(target, api_key=api_key or None, tls=tls) as client:
        yield client


def quiet_grpc() -> None:
    """Keep gRPC's own log lines from standing between ours; before it is imported.

    Who wants to see them sets GRPC_VERBOSITY.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
