"""Command `run`: any model on Replicate, by its slug and with its own inputs."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mediagate_cli import options as o
from mediagate_cli.connection import run_with_client
from mediagate_cli.exit_codes import print_error
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.output import print_outputs, to_json
from mediagate_cli.progress import show_progress
from mediagate_cli.save_files import check_output_path, print_saved_file, save_outputs

if TYPE_CHECKING:
    from mediagate.v1.generation_pb2 import RawOutput
    from mediagate_client import AsyncClient, MediaSource


@expand_option_groups
def run(
    server: o.ServerOptions,
    options: o.RunOptions,
    slug: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="owner/name, owner/name:version or deployments/owner/name."
        ),
    ],
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            help="NAME=VALUE of the model's own; JSON where it is some; may be repeated.",
        ),
    ] = None,
    media: Annotated[
        list[str] | None,
        typer.Option(help="NAME=MEDIUM for an input: path, URL or kept id; may be repeated."),
    ] = None,
    output: o.Output = None,
    as_json: o.Json = False,
) -> None:
    """Run any model by its slug; print its output and save its files."""
    if options.model is not None:
        raise typer.BadParameter("the model is named as the argument", param_hint="--model")
    fields = options.fields() | {
        "input": {name: _value(text) for name, text in _pairs(given, "--input")},
        "media": _media(media),
        "wait": 0,
    }
    check_output_path(output)

    async def work(client: "AsyncClient") -> None:
        from mediagate.v1.models_pb2 import RunModelRequest
        from mediagate_client import billable_request

        submitted = await client.run_model(billable_request(RunModelRequest, slug, fields))
        generation = await show_progress(client, submitted)
        files = await save_outputs(client, generation, output, slug.partition("/")[2])
        if as_json:
            print_outputs(generation, files)
            return
        if not files:
            await _print_output(client, generation.raw)
        print_saved_file(generation, files)

    run_with_client(server, work)


async def _print_output(client: "AsyncClient", raw: "RawOutput") -> None:
    """Print the exact output; a large one is read in chunks, never as a whole."""
    if raw.document.id:
        async for piece in client.read_media(raw.document):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()
        return
    if raw.document.HasField("error"):
        print_error(f"  not all of the output is kept: {raw.document.error.message}")
    value = to_json(raw.value)
    if isinstance(value, str):
        print(value)
    else:
        print(raw.exact_json or json.dumps(value, ensure_ascii=False))


def _pairs(texts: Sequence[str] | None, option: str) -> list[tuple[str, str]]:
    pairs = []
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        pairs.append((name, value))
    return pairs


def _value(text: str) -> object:
    """Parse JSON; anything else is a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _media(texts: Sequence[str] | None) -> "dict[str, list[MediaSource | None]]":
    """Return media by input; several for one input are a list."""
    media: dict[str, list[MediaSource | None]] = {}
    for name, source in _pairs(texts, "--media"):
        media.setdefault(name, []).append(source)
    return media
