"""Connection of a command to the server."""

import asyncio
from typing import TYPE_CHECKING, Final

import typer

from mediagate_cli.exit_codes import REFUSED, exit_on_error, print_error, unreachable_server_error
from mediagate_cli.interrupts import run_interruptible

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mediagate_cli.options import ServerOptions
    from mediagate_client import AsyncClient

    Work = Callable[[AsyncClient], Awaitable[None]]


_CONNECT_SECONDS: Final = 2.5
"""gRPC's own limit is 20 s, which an address that drops packets would use up."""
_LONGEST_RETRY_AFTER: Final = 2.0


def run_with_client(server: "ServerOptions", work: "Work") -> None:
    """Run `work` with a client of the server; an error ends the command with one line.

    On asyncio, because there a signal cancels the work. With blocking stubs it would interrupt
    gRPC, which may then hold its locks for ever.
    """
    _check(server)
    with exit_on_error(server.target):
        run_interruptible(_connect_and_run(server, work))


def _check(server: "ServerOptions") -> None:
    """Raise BadParameter for a target or a key that gRPC could not send."""
    if not server.target.strip():
        raise typer.BadParameter("it is empty", param_hint="--target (MEDIAGATE_TARGET)")
    if not (server.api_key.isascii() and server.api_key.isprintable()):
        raise typer.BadParameter(
            "a key has printable ASCII characters alone",
            param_hint="--api-key (MEDIAGATE_API_KEY)",
        )


async def _connect_and_run(server: "ServerOptions", work: "Work") -> None:
    from mediagate_client import AsyncClient, RetryPolicy

    # A person at a terminal is told at once what is wrong, and decides: where the server says that
    # upstream is unavailable, the command does not wait for it.
    retry = RetryPolicy(longest_retry_after=_LONGEST_RETRY_AFTER)
    async with AsyncClient(
        server.target, api_key=server.api_key or None, tls=server.tls, retry=retry
    ) as client:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await client.channel.channel_ready()
        except TimeoutError:
            print_error(f"mediagate: {unreachable_server_error(server.target)}")
            raise typer.Exit(REFUSED) from None
        await work(client)
