"""Progress display of a generation, from its id at the start to its end or an interrupt."""

import asyncio
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mediagate_cli.exit_codes import print_error
from mediagate_cli.format import format_cost, format_usd, state_word
from mediagate_cli.standard_streams import is_unicode

if TYPE_CHECKING:
    from mediagate.v1.generation_pb2 import Generation
    from mediagate_client import AsyncClient

_SCALE: Final = 100.0
_MINUTE: Final = 60
_ROUNDING: Final = 1e-9
"""A percentage is cut, so that 100 is the end; 0.29 * 100 is a little less than 29."""
_CANCEL_SECONDS: Final = 3.0
_SETTLE_SECONDS: Final = 2.0
"""How long the end of a cancelled generation is waited for, to tell its cost."""


def print_start(generation_id: str, model: str) -> None:
    """Print a generation's id on stderr, as soon as it is known."""
    print_error(f"{generation_id}: accepted{f', {model}' if model else ''}")


def print_unanswered() -> None:
    """Print what becomes of a call that was interrupted before its generation's id was known."""
    print_error("interrupted before the server answered: what it may have accepted is cancelled")
    print_error("  `mediagate list` shows it")


async def follow_submitted(client: "AsyncClient", generation: "Generation") -> "Generation":
    """Print the id of a new generation, wait for its end, and return it.

    Raises the typed error of a failed one. An interrupt cancels it upstream, so that it costs no
    more than what has run, and tells what became of it.
    """
    from mediagate_client import MediagateError
    from mediagate_client.generation_result import raise_for_failure

    print_start(generation.id, generation.model)
    try:
        ended = await show_progress(client, generation)
    except MediagateError as error:
        error.add_note(f"`mediagate wait {generation.id}` tells its end")
        raise
    except asyncio.CancelledError:
        await _cancel(client, generation.id)
        await print_interrupted(client, generation.id)
        raise
    return raise_for_failure(ended, raise_on_failure=True)


async def show_progress(client: "AsyncClient", generation: "Generation") -> "Generation":
    """Wait for the end of a generation and return it; on a terminal its state is on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TimeElapsedColumn

    from mediagate_cli.state_column import StateColumn
    from mediagate_client import is_terminal

    if is_terminal(generation):
        return generation
    with Progress(
        SpinnerColumn("dots" if is_unicode(sys.stderr) else "line"),
        StateColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        bar = progress.add_task("", total=None, generation=generation)
        latest = generation
        async for latest in client.watch(generation.id):
            if progress.disable and latest.HasField("queue_position"):
                print_error(format_state(latest))
            has_progress = latest.HasField("progress")
            progress.update(
                bar,
                generation=latest,
                total=_SCALE if has_progress else None,
                completed=latest.progress * _SCALE if has_progress else 0,
            )
    return latest


@contextmanager
def hint_on_error(generation_id: str, command: str = "save") -> Iterator[None]:
    """Context manager: an error after the generation's end says which command has its result."""
    from mediagate_client import MediagateError

    hint = f"`mediagate {command} {generation_id}` gets what it made"
    try:
        yield
    except (MediagateError, OSError) as error:
        error.add_note(hint)
        raise
    except (asyncio.CancelledError, KeyboardInterrupt):
        print_error(f"  {hint}")
        raise


async def print_interrupted(client: "AsyncClient", generation_id: str) -> None:
    """Print what became of a generation after an interrupt, its cost, and how to go on."""
    from mediagate_client import MediagateError, is_terminal

    try:
        async with asyncio.timeout(_CANCEL_SECONDS):
            generation = await client.wait(
                generation_id, wait=_SETTLE_SECONDS, raise_on_failure=False
            )
    except (MediagateError, TimeoutError):
        print_error(f"{generation_id}: its cost is not known yet")
        print_error(f"  `mediagate wait {generation_id}` tells its end and its cost")
        return
    print_error(f"{generation_id}: {format_state(generation)}, {format_cost_so_far(generation)}")
    if is_terminal(generation):
        print_error(f"  `mediagate save {generation_id}` gets what it made until then")
    else:
        print_error(
            f"  `mediagate wait {generation_id}` tells its end and its cost, "
            f"`mediagate cancel {generation_id}` ends it"
        )


async def _cancel(client: "AsyncClient", generation_id: str) -> None:
    """Cancel after an interrupt, within a few seconds; an error is printed, not raised."""
    from mediagate_client import MediagateError

    print_error(f"cancelling {generation_id} ...")
    try:
        async with asyncio.timeout(_CANCEL_SECONDS):
            await client.cancel(generation_id)
    except (MediagateError, TimeoutError) as error:
        print_error(f"could not cancel {generation_id}: {str(error) or 'no answer in time'}")


def format_cost_so_far(generation: "Generation") -> str:
    """Format the cost of a generation that may not be settled yet."""
    from mediagate.v1.cost_pb2 import COST_STATE_ESTIMATED

    cost = generation.cost
    if cost.HasField("usd_nanos") and cost.state == COST_STATE_ESTIMATED:
        return f"cost not settled yet, at most {format_usd(cost.usd_nanos)}"
    return f"cost {format_cost(cost)}"


def format_state(generation: "Generation", now: datetime | None = None) -> str:
    """Format the state of a generation.

    As in "queued at place 3, starts in about 20 s", or "running, 45%, about 12 s left".
    """
    state = state_word(generation)
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
