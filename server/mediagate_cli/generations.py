"""Commands by a generation's id: `list`, `watch`, `wait`, `cancel` and `delete`."""

import asyncio
import sys
from datetime import UTC
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from mediagate_cli import options as o
from mediagate_cli.connection import run_with_client
from mediagate_cli.exit_codes import UNFINISHED, error_message, exit_code_of, print_error
from mediagate_cli.format import format_verdict, state_word
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.output import enum_word, print_json, to_json, wide_console
from mediagate_cli.progress import format_cost_so_far, format_state, show_progress
from mediagate_cli.save_files import print_summary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from mediagate.v1.generation_pb2 import Generation
    from mediagate_client import AsyncClient
    from mediagate_client.arguments import FilterArguments

GenerationIds = Annotated[list[str], typer.Argument(help="Their ids.", metavar="GENERATION...")]


class StateName(StrEnum):
    """State of a generation, for `--state`."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    UNCONFIRMED = "unconfirmed"
    STARTING = "starting"
    RUNNING = "running"
    FINALIZING = "finalizing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@expand_option_groups
def list_generations(
    server: o.ServerOptions,
    state: Annotated[
        list[StateName] | None, typer.Option(help="Only those; may be repeated.")
    ] = None,
    modality: Annotated[o.ModalityName | None, typer.Option(help="Only those.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Only by these, by slug.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE: only with these.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    as_json: o.Json = False,
) -> None:
    """List generations, newest first."""
    filters: FilterArguments = {}
    if state:
        filters["states"] = [name.value for name in state]
    if modality:
        filters["modality"] = modality.value
    if model:
        filters["models"] = [o.decode_argument(name, "--model") for name in model]
    if labels := o.parse_labels(label):
        filters["labels"] = labels

    async def work(client: "AsyncClient") -> None:
        listed = client.list(page_size=min(limit, 1000), **filters)
        generations = await _first(listed, limit)
        if as_json:
            print_json([to_json(generation) for generation in generations])
        elif generations:
            _print_table(generations)
        else:
            print_error("No generation.")

    run_with_client(server, work)


@expand_option_groups
def watch(server: o.ServerOptions, generation_id: o.GenerationId, as_json: o.Json = False) -> None:
    """Print every change of a generation until its end. Ctrl-C leaves it running."""

    async def work(client: "AsyncClient") -> None:
        from mediagate_client.generation_result import raise_for_failure

        last, latest = "", None
        try:
            async for latest in client.watch(generation_id):
                line = format_state(latest)
                if as_json:
                    print_json(to_json(latest))
                elif line != last:
                    print(line)
                sys.stdout.flush()
                last = line
        except asyncio.CancelledError:
            print_error(f"{generation_id}: it goes on; `mediagate cancel {generation_id}` ends it")
            raise
        if latest is not None:
            print_summary(latest)
            raise_for_failure(latest, raise_on_failure=True)

    run_with_client(server, work)


@expand_option_groups
def wait(
    server: o.ServerOptions,
    generation_id: o.GenerationId,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0, help="Seconds to wait; default: to the end.")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Wait for the end of a generation and print its state. Ctrl-C leaves it running.

    Ends with 3 where it failed or was cancelled, with 4 where it goes on.
    """

    async def work(client: "AsyncClient") -> None:
        from mediagate_client import is_terminal
        from mediagate_client.generation_result import raise_for_failure

        generation = await client.get(generation_id)
        try:
            async with asyncio.timeout(seconds):
                generation = await show_progress(client, generation)
        except TimeoutError:
            generation = await client.get(generation_id)
        except asyncio.CancelledError:
            print_error(f"{generation_id}: it goes on; `mediagate cancel {generation_id}` ends it")
            raise
        if as_json:
            print_json(to_json(generation))
        else:
            print(state_word(generation))
            _print_cost(generation)
        if not is_terminal(generation):
            raise typer.Exit(UNFINISHED)
        raise_for_failure(generation, raise_on_failure=True)

    run_with_client(server, work)


@expand_option_groups
def cancel(server: o.ServerOptions, generation_ids: GenerationIds) -> None:
    """Ask for the end of generations, whoever waits for them. What ran until then is paid."""

    async def work(client: "AsyncClient") -> None:
        async def cancel_one(generation_id: str) -> None:
            generation = await client.cancel(generation_id)
            print(f"{generation_id}: {state_word(generation)}, {format_cost_so_far(generation)}")

        await _for_each(generation_ids, cancel_one, server.target)

    run_with_client(server, work)


@expand_option_groups
def delete(server: o.ServerOptions, generation_ids: GenerationIds) -> None:
    """Erase the inputs and outputs of generations that have ended; what they cost stays."""

    async def work(client: "AsyncClient") -> None:
        async def delete_one(generation_id: str) -> None:
            await client.delete(generation_id)
            print(f"{generation_id}: erased")

        await _for_each(generation_ids, delete_one, server.target)

    run_with_client(server, work)


async def _for_each(
    generation_ids: "Sequence[str]", work: "Callable[[str], Awaitable[None]]", target: str
) -> None:
    """Do the work for each id; an error is printed, and ends the command once all were tried."""
    from mediagate_client import MediagateError

    codes = [0]
    for generation_id in generation_ids:
        try:
            await work(generation_id)
        except MediagateError as error:
            print_error(f"mediagate: {generation_id}: {error_message(error, target)}")
            codes.append(exit_code_of(error))
    if worst := max(codes):
        raise typer.Exit(worst)


def print_generation(generation: "Generation") -> None:
    """Print the facts of one generation."""
    from mediagate_cli.save_files import outputs_of

    created = generation.create_time.ToDatetime(UTC)
    facts = {
        "state": format_state(generation),
        "makes": enum_word("Modality", generation.modality),
        "model": generation.model,
        "stands in for": generation.substitution.requested_model,
        "made by": "the sandbox: nothing was paid" if generation.sandbox else "",
        "accepted": f"{created:%Y-%m-%d %H:%M:%S} UTC"
        if generation.HasField("create_time")
        else "",
        "labels": ", ".join(f"{key}={value}" for key, value in sorted(generation.labels.items())),
        "error": " ".join(generation.error.message.split()),
        "outputs": ", ".join(output.medium.media_type for output in outputs_of(generation)),
        "verdict": _verdict(generation),
        "erased": str(generation.erase_time.ToDatetime())
        if generation.HasField("erase_time")
        else "",
        "cost": format_cost_so_far(generation).removeprefix("cost "),
    }
    print(generation.id)
    for name, value in facts.items():
        if value:
            print(f"  {name}: {value}")
    if outputs_of(generation):
        print_error(f"`mediagate save {generation.id}` saves what it made")


def _verdict(generation: "Generation") -> str:
    verdict = generation.safety
    is_known = verdict.verdict != verdict.VERDICT_UNSPECIFIED
    return format_verdict(verdict) if is_known else ""


def _print_cost(generation: "Generation") -> None:
    from mediagate_client import is_terminal

    if is_terminal(generation):
        print_summary(generation)
    else:
        print_error(
            f"{generation.id}: {format_state(generation)}, {format_cost_so_far(generation)}"
        )


def _print_table(generations: "Sequence[Generation]") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("GENERATION", "STATE", "MODEL", "COST", "ACCEPTED (UTC)"):
        table.add_column(heading, no_wrap=heading == "GENERATION", overflow="fold")
    for generation in generations:
        table.add_row(
            generation.id,
            state_word(generation),
            f"{generation.model} (sandbox)" if generation.sandbox else generation.model,
            format_cost_so_far(generation).removeprefix("cost "),
            f"{generation.create_time.ToDatetime(UTC):%Y-%m-%d %H:%M:%S}",
        )
    wide_console().print(table)


async def _first(generations: "AsyncIterator[Generation]", limit: int) -> "list[Generation]":
    first: list[Generation] = []
    async for generation in generations:
        first.append(generation)
        if len(first) == limit:
            break
    return first
