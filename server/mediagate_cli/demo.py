"""Command `demo`: one generation of each kind, on a running server or a temporary one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mediagate_cli import options as o
from mediagate_cli.connection import run_with_client
from mediagate_cli.exit_codes import FAILED, print_error
from mediagate_cli.format import parse_usd_nanos
from mediagate_cli.interrupts import exit_on_signal
from mediagate_cli.option_groups import expand_option_groups

if TYPE_CHECKING:
    from mediagate_cli.tour import TourRequest, TourStep
    from mediagate_client import AsyncClient


@expand_option_groups
def demo(
    server: o.ServerOptions,
    out: Annotated[Path, typer.Option(help="Folder for the outputs.")] = Path("out"),
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the image.")] = "512x512",
    video_seconds: Annotated[float, typer.Option(help="Length of the video.")] = 5,
    audio_seconds: Annotated[float, typer.Option(help="Length of the sound.")] = 3,
    max_cost: Annotated[
        str, typer.Option(help="The most that each step may cost, in dollars.")
    ] = "1.00",
) -> None:
    """Make a text, an image, a video of it, a sound and a safety check; print what each cost.

    Where no server answers, it starts one on the sandbox, which costs nothing, and stops it again.
    """
    from mediagate_cli.temporary_server import ServerDidNotStart, is_serving, temporary_server
    from mediagate_cli.tour import TourRequest

    width, height = _pixels(size)
    request = TourRequest(
        out, width, height, video_seconds, audio_seconds, parse_usd_nanos(max_cost)
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{out}: {error.strerror}", param_hint="--out") from None
    if is_serving(server.target, tls=server.tls):
        _run_tour(server, request)
        return
    try:
        with exit_on_signal():
            print_error(f"No server answers at {server.target}: starting one, on the sandbox.")
            with temporary_server() as target:
                _run_tour(o.ServerOptions(target), request)
    except ServerDidNotStart as error:
        print_error(f"mediagate: the server did not start:\n{error}")
        raise typer.Exit(FAILED) from None


def _run_tour(server: o.ServerOptions, request: "TourRequest") -> None:
    """Run all steps, print the table, and exit with the highest exit code of a step."""
    from mediagate_cli.tour import Tour

    steps: list[TourStep] = []

    async def work(client: "AsyncClient") -> None:
        steps.extend(await Tour(client, server.target, request).run())
        _print_table(steps)

    run_with_client(server, work)
    if worst := max(step.code for step in steps):
        raise typer.Exit(worst)


def _pixels(size: str) -> tuple[int, int]:
    """Return WIDTHxHEIGHT as numbers. BadParameter for anything else."""
    width, _, height = size.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"{size!r} is not WIDTHxHEIGHT", param_hint="--size")
    return int(width), int(height)


def _print_table(steps: "Sequence[TourStep]") -> None:
    """Print what each step made, by which model, and for how much."""
    from rich.table import Table

    from mediagate_cli.output import wide_console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("STEP", "MODEL", "COST", "SECONDS", "RESULT"):
        right = heading in ("COST", "SECONDS")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for step in steps:
        table.add_row(step.name, step.model, step.cost, f"{step.seconds:.1f}", step.result)
    print()
    wide_console().print(table)
