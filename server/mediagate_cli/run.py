"""Command `run`: any model on Replicate, by its slug and with its own inputs."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mediagate_cli import options as o
from mediagate_cli.connection import run_with_client
from mediagate_cli.exit_codes import print_error
from mediagate_cli.media_command import SaveOptions, save_and_print, submit_and_follow
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.progress import hint_on_error
from mediagate_cli.save_files import SaveTarget, print_summary, raw_text

if TYPE_CHECKING:
    from mediagate.v1.generation_pb2 import Generation
    from mediagate_client import AsyncClient, MediaSource


@expand_option_groups
def run(
    server: o.ServerOptions,
    options: o.RunOptions,
    target: SaveTarget,
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
    target.check()
    if target.output is None:
        o.check_stdout()

    async def submit(client: "AsyncClient") -> "Generation":
        from mediagate.v1.models_pb2 import RunModelRequest
        from mediagate_client import billable_request

        return await client.run_model(billable_request(RunModelRequest, slug, fields))

    async def work(client: "AsyncClient") -> None:
        from mediagate_client import media_of

        generation = await submit_and_follow(client, submit)
        with hint_on_error(generation.id):
            if as_json or target.output is not None or media_of(generation):
                saving = SaveOptions(target, slug.partition("/")[2], as_json)
                await save_and_print(client, generation, saving)
            else:
                await _print_output(client, generation)

    run_with_client(server, work)


async def _print_output(client: "AsyncClient", generation: "Generation") -> None:
    """Print the exact output; a large one is read in chunks, never as a whole."""
    raw = generation.raw
    if raw.document.id:
        async for piece in client.read_media(raw.document):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.write(b"\n")
    else:
        print(raw_text(raw))
    sys.stdout.flush()
    if raw.document.HasField("error"):
        print_error(f"  not all of the output is kept: {raw.document.error.message}")
    print_summary(generation)


def _pairs(texts: Sequence[str] | None, option: str) -> list[tuple[str, str]]:
    pairs = []
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        is_path = option == "--media"
        pairs.append((name, value if is_path else o.decode_argument(value, option)))
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
