"""How commands reach a gate."""

import asyncio
import os
from typing import TYPE_CHECKING, Final

import typer

from mediagate_cli.exit_codes import REFUSED, exit_on_error, print_error, unreachable_server_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mediagate_cli.options import ServerOptions
    from mediagate_client import AsyncClient

    Work = Callable[[AsyncClient], Awaitable[None]]


_CONNECT_SECONDS: Final = 2.5
"""A gate that hides behind a silent address would keep gRPC waiting for 20."""
_LONGEST_RETRY_AFTER: Final = 2.0


def run_with_client(gate: "ServerOptions", work: "Work") -> None:
    """Do `work` with a client of the gate; what goes wrong ends the command in one line.

    On asyncio, because there Ctrl-C cancels the work in an orderly way. With blocking stubs it
    would strike in the middle of gRPC, which may then hold its locks for ever.
    """
    silence_grpc_logs()
    with exit_on_error(gate.target):
        asyncio.run(_work(gate, work))


async def _work(gate: "ServerOptions", work: "Work") -> None:
    from mediagate_client import AsyncClient, RetryPolicy

    # Whoever sits before a terminal is told what is wrong, and decides: where a gate says that
    # upstream is away, the command does not wait for it to come back.
    impatient = RetryPolicy(longest_retry_after=_LONGEST_RETRY_AFTER)
    async with AsyncClient(
        gate.target, api_key=gate.api_key or None, tls=gate.tls, retry=impatient
    ) as client:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await client.channel.channel_ready()
        except TimeoutError:
            print_error(f"mediagate: {unreachable_server_error(gate.target)}")
            raise typer.Exit(REFUSED) from None
        await work(client)


def silence_grpc_logs() -> None:
    """Keep gRPC's own log lines from standing between ours; before it is imported.

    Who wants to see them sets GRPC_VERBOSITY.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
