"""Interrupts: Ctrl-C, SIGTERM and SIGHUP cancel a command's work, which then says how to go on."""

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import typer

from mediagate_cli.exit_codes import INTERRUPTED, print_error
from mediagate_cli.standard_streams import OutputFile

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")


def run_interruptible(work: "Coroutine[object, object, None]") -> None:
    """Run a coroutine on asyncio; a signal cancels it and ends the command with 128 + its number.

    A second signal also cancels what the work does at its end.
    """
    received: list[int] = []
    try:
        asyncio.run(_run(work, received))
    except (asyncio.CancelledError, KeyboardInterrupt):
        if not received:
            raise
    if received:
        print_error("mediagate: interrupted")
        raise typer.Exit(128 + received[0])


@contextmanager
def exit_on_signal() -> "Iterator[None]":
    """Context manager for what runs beside asyncio: a signal unwinds it, and ends the command."""
    received: list[int] = []

    def interrupt(number: int, _: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    try:
        with _handlers(interrupt):
            yield
    except KeyboardInterrupt:
        print_error("mediagate: interrupted")
        raise typer.Exit(128 + received[0] if received else INTERRUPTED) from None


@contextmanager
def delay_signals() -> "Iterator[None]":
    """Context manager: a signal that comes meanwhile takes effect at the end of the block."""
    received: list[int] = []
    with _handlers(lambda number, _: received.append(number)):
        yield
    for number in received[:1]:
        signal.raise_signal(number)


async def _run(work: "Coroutine[object, object, None]", received: list[int]) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()

    def interrupt(number: int, _: object) -> None:
        received.append(number)
        OutputFile.is_interrupted = True
        if OutputFile.is_waiting:
            raise KeyboardInterrupt
        loop.call_soon_threadsafe(task.cancel)

    with _handlers(interrupt):
        await task


@contextmanager
def _handlers(interrupt: "Callable[[int, object], None]") -> "Iterator[None]":
    """Context manager: the handler of all three signals, as far as nobody ignores them.

    They are ignored by nohup, or by a shell for what runs in the background.
    """
    signals = [number for number in signal.Signals if number.name in _SIGNALS]
    heard = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        heard = []
    previous = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
