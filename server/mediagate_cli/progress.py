"""A generation on its way: shown while it is made, cancelled by Ctrl-C."""

import asyncio
import math
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mediagate_cli.exit_codes import print_error

if TYPE_CHECKING:
    from mediagate.v1.generation_pb2 import Generation
    from mediagate_client import AsyncClient

_SCALE: Final = 100.0
_MINUTE: Final = 60
_ROUNDING: Final = 1e-9
"""A percentage is cut, so that 100 is the end; 0.29 * 100 is a little less than 29."""
_CANCEL_SECONDS: Final = 3.0


async def show_progress(client: "AsyncClient", begun: "Generation") -> "Generation":
    """Return the generation at its end; raise the typed error of a bad one.

    On a terminal its state is shown on stderr. Ctrl-C cancels it upstream, so that it does not
    cost more than what has run.
    """
    from mediagate_client import is_terminal
    from mediagate_client.generation_result import raise_for_failure

    generation = begun
    try:
        if not is_terminal(begun):
            generation = await _watch(client, begun)
    except asyncio.CancelledError:
        await _cancel(client, begun.id)
        raise
    return raise_for_failure(generation, raise_on_failure=True)


async def _watch(client: "AsyncClient", begun: "Generation") -> "Generation":
    """Return the generation at its end, its state shown meanwhile."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TimeElapsedColumn

    from mediagate_cli.state_column import StateColumn

    generation = begun
    with Progress(
        SpinnerColumn(),
        StateColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        bar = progress.add_task("", total=None, generation=begun)
        async for generation in client.watch(begun.id):
            if progress.disable and generation.HasField("queue_position"):
                print_error(format_state(generation))
            known = generation.HasField("progress")
            progress.update(
                bar,
                generation=generation,
                total=_SCALE if known else None,
                completed=generation.progress * _SCALE if known else 0,
            )
    return generation


async def _cancel(client: "AsyncClient", generation_id: str) -> None:
    """Cancel for somebody who pressed Ctrl-C: say so, and do not fail or dawdle over it."""
    from mediagate_client import MediagateError

    print_error("cancelling …")
    try:
        async with asyncio.timeout(_CANCEL_SECONDS):
            await client.cancel(generation_id)
    except (MediagateError, TimeoutError) as error:
        print_error(f"could not cancel {generation_id}: {error}")


def format_state(generation: "Generation", now: datetime | None = None) -> str:
    """Return where it stands.

    As in "queued at place 3, starts in about 20 s", or "running, 45%, about 12 s left".
    """
    state = type(generation).State.Name(generation.state).removeprefix("STATE_").lower()
    if generation.HasField("queue_position"):
        start = generation.expected_start_time.ToDatetime(UTC)
        seconds = (start - (now or datetime.now(UTC))).total_seconds()
        return f"{state} at place {generation.queue_position}{format_start_time(seconds)}"
    words = [state]
    if generation.HasField("progress"):
        words.append(f"{int(generation.progress * 100 + _ROUNDING)}%")
    if generation.HasField("expected_complete_time"):
        words.append(_time_left(generation, now or datetime.now(UTC)))
    return ", ".join(words)


def format_start_time(seconds: float) -> str:
    """Return in how long something that waits is expected to start; empty for hardly any."""
    return f", starts in about {math.ceil(seconds)} s" if seconds > 1 else ""


def _time_left(generation: "Generation", now: datetime) -> str:
    """Return how long runs of its model last as a rule, as far as that lies ahead."""
    for words, time in (
        ("about", generation.expected_complete_time),
        ("as a rule at most", generation.expected_complete_time_p90),
    ):
        seconds = (time.ToDatetime(UTC) - now).total_seconds()
        if seconds > 0:
            return f"{words} {_seconds_in_words(seconds)} left"
    return "longer than usual"


def _seconds_in_words(seconds: float) -> str:
    whole = math.ceil(seconds)
    return f"{whole} s" if whole < _MINUTE else f"{whole // _MINUTE} min {whole % _MINUTE} s"
