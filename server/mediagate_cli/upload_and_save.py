"""Commands `upload` (a file, as input) and `save` (outputs of an earlier generation)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mediagate_cli import options as o
from mediagate_cli.connection import run_with_client
from mediagate_cli.exit_codes import print_error
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.output import print_json, print_outputs, to_json
from mediagate_cli.save_files import check_output_path, print_saved_file, save_outputs

if TYPE_CHECKING:
    from mediagate_client import AsyncClient


@expand_option_groups
def upload(
    server: o.ServerOptions,
    file: Annotated[Path, typer.Argument(help="The file, at most 100 MB.")],
    media_type: Annotated[str, typer.Option("--type", help="Its IANA media type.")] = "",
    as_json: o.Json = False,
) -> None:
    """Upload a file, to be used as input for a while; prints the id that media options take."""

    async def work(client: "AsyncClient") -> None:
        from mediagate_cli.format import format_bytes

        uploaded = await client.upload(file, media_type=media_type)
        if as_json:
            print_json(to_json(uploaded))
            return
        print(uploaded.upload_id)
        until = uploaded.expire_time.ToDatetime().isoformat(" ", "minutes")
        size = format_bytes(uploaded.size_bytes)
        print_error(f"  {uploaded.media_type}, {size}, kept until {until} UTC")

    run_with_client(server, work)


@expand_option_groups
def save(
    server: o.ServerOptions,
    generation_id: Annotated[str, typer.Argument(help="Whose outputs to save.")],
    output: o.Output = None,
    as_json: o.Json = False,
) -> None:
    """Save the outputs of an earlier generation."""
    check_output_path(output)

    async def work(client: "AsyncClient") -> None:
        generation = await client.wait(generation_id)
        files = await save_outputs(client, generation, output, generation_id)
        if as_json:
            print_outputs(generation, files)
        else:
            print_saved_file(generation, files)

    run_with_client(server, work)
