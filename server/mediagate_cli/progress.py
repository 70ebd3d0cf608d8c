"""Progress display of a generation; Ctrl-C cancels it."""

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


async def show_progress(client: "AsyncClient", generation: "Generation") -> "Generation":
    """Wait for the end of a generation and return it; raise the typed error of a failed one.

    On a terminal its state is shown on stderr. Ctrl-C cancels it upstream, so that it costs no
    more than what has run.
    """
    from mediagate_client import is_terminal
    from mediagate_client.generation_result import raise_for_failure

    try:
        if not is_terminal(generation):
            generation = await _watch(client, generation)
    except asyncio.CancelledError:
        await _cancel(client, generation.id)
        raise
    return raise_for_failure(generation, raise_on_failure=True)


async def _watch(client: "AsyncClient", submitted: "Generation") -> "Generation":
    """Show the state until the end, and return the generation."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TimeElapsedColumn

    from mediagate_cli.state_column import StateColumn

    generation = submitted
    with Progress(
        SpinnerColumn(),
        StateColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        bar = progress.add_task("", total=None, generation=submitted)
        async for generation in client.watch(submitted.id):
            if progress.disable and generation.HasField("queue_position"):
                print_error(format_state(generation))
            has_progress = generation.HasField("progress")
            progress.update(
                bar,
                generation=generation,
                total=_SCALE if has_progress else None,
                completed=generation.progress * _SCALE if has_progress else 0,
            )
    return generation


async def _cancel(client: "AsyncClient", generation_id: str) -> None:
    """Cancel after Ctrl-C, within a few seconds; an error is printed, not raised."""
    from mediagate_client import MediagateError

    print_error("cancelling …")
    try:
        async with asyncio.timeout(_CANCEL_SECONDS):
            await client.cancel(generation_id)
    except (MediagateError, TimeoutError) as error:
        print_error(f"could not cancel {generation_id}: {error}")


def format_state(generation: "Generation", now: datetime | None = None) -> str:
    """Format the state of a generation.

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
        words.append(_format_time_left(generation, now or datetime.now(UTC)))
    return ", ".join(words)


def format_start_time(seconds: float) -> str:
    """Format the expected wait of a queued generation; empty up to a second."""
    return f", starts in about {math.ceil(seconds)} s" if seconds > 1 else ""


def _format_time_left(generation: "Generation", now: datetime) -> str:
    """Format the expected time left, by the usual durations of the model's runs."""
    for words, time in (
        ("about", generation.expected_complete_time),
        ("as a rule at most", generation.expected_complete_time_p90),
    ):
        seconds = (time.ToDatetime(UTC) - now).total_seconds()
        if seconds > 0:
            return f"{words} {_format_seconds(seconds)} left"
    return "longer than usual"


def _format_seconds(seconds: float) -> str:
    rounded = math.ceil(seconds)
    return (
        f"{rounded} s" if rounded < _MINUTE else f"{rounded // _MINUTE} min {rounded % _MINUTE} s"
    )
