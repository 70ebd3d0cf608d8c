"""How commands reach a gate."""

import asyncio
import os
from typing import TYPE_CHECKING

from mediagate_cli.exits import ending_well

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mediagate_cli.options import Gate
    from mediagate_client import AsyncClient

    Work = Callable[[AsyncClient], Awaitable[None]]


def with_gate(gate: "Gate", work: "Work") -> None:
    """Do `work` with a client of the gate; what goes wrong ends the command in one line.

    On asyncio, because there Ctrl-C cancels the work in an orderly way. With blocking stubs it
    would strike in the middle of gRPC, which may then hold its locks for ever.
    """
    quiet_grpc()
    with ending_well(gate.target):
        asyncio.run(_work(gate, work))


async def _work(gate: "Gate", work: "Work") -> None:
    from mediagate_client import AsyncClient

    async with AsyncClient(gate.target, api_key=gate.api_key or None, tls=gate.tls) as client:
        await work(client)


def quiet_grpc() -> None:
    """Keep gRPC's own log lines from standing between ours; before it is imported.

    Who wants to see them sets GRPC_VERBOSITY.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
