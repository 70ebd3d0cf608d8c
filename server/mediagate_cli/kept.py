"""`upload` and `save`: files into a gate, and what it keeps out of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mediagate_cli import options as o
from mediagate_cli.bundles import spread
from mediagate_cli.connection import with_gate
from mediagate_cli.exits import say
from mediagate_cli.saving import refuse_bad_output, tell
from mediagate_cli.saving import save as save_outputs
from mediagate_cli.shown import print_json, print_made, to_json

if TYPE_CHECKING:
    from mediagate_client import AsyncClient


@spread
def upload(
    gate: o.Gate,
    file: Annotated[Path, typer.Argument(help="The file, at most 100 MB.")],
    media_type: Annotated[str, typer.Option("--type", help="Its IANA media type.")] = "",
    as_json: o.Json = False,
) -> None:
    """Upload a file, to be used as input for a while; prints the id that media options take."""

    async def work(client: "AsyncClient") -> None:
        from mediagate_cli.money import bytes_in_words

        uploaded = await client.upload(file, media_type=media_type)
        if as_json:
            print_json(to_json(uploaded))
            return
        print(uploaded.upload_id)
        until = uploaded.expire_time.ToDatetime().isoformat(" ", "minutes")
        size = bytes_in_words(uploaded.size_bytes)
        say(f"  {uploaded.media_type}, {size}, kept until {until} UTC")

    with_gate(gate, work)


@spread
def save(
    gate: o.Gate,
    generation_id: Annotated[str, typer.Argument(help="Whose outputs to save.")],
    output: o.Output = None,
    as_json: o.Json = False,
) -> None:
    """Save the outputs of an earlier generation."""
    refuse_bad_output(output)

    async def work(client: "AsyncClient") -> None:
        generation = await client.wait(generation_id)
        files = await save_outputs(client, generation, output, generation_id)
        if as_json:
            print_made(generation, files)
        else:
            tell(generation, files)

    with_gate(gate, work)
