"""Interrupts: Ctrl-C, SIGTERM and SIGHUP cancel a command's work, which then says how to go on."""

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Final

import typer

from mediagate_cli.exit_codes import print_error

if TYPE_CHECKING:
    from collections.abc import Coroutine

_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")


def run_interruptible(work: "Coroutine[object, object, None]") -> None:
    """Run a coroutine on asyncio; a signal cancels it and ends the command with 128 + its number.

    A second signal also cancels what the work does at its end.
    """
    received: list[int] = []
    try:
        asyncio.run(_run(work, received))
    except asyncio.CancelledError:
        if not received:
            raise
    if received:
        print_error("mediagate: interrupted")
        raise typer.Exit(128 + received[0])


async def _run(work: "Coroutine[object, object, None]", received: list[int]) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()

    def interrupt(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in signal.Signals:
        # What is ignored stays so: by nohup, or by a shell for what runs in the background.
        if number.name in _SIGNALS and signal.getsignal(number) != signal.SIG_IGN:
            with contextlib.suppress(NotImplementedError, RuntimeError):
                loop.add_signal_handler(number, interrupt, number)
    await task
