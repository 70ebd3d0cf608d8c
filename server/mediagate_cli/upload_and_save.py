"""Commands `upload` (a file, as input) and `save` (outputs of a generation)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mediagate_cli import options as o
from mediagate_cli.connection import run_with_client
from mediagate_cli.exit_codes import REFUSED, print_error
from mediagate_cli.media_command import SaveOptions, save_and_print
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.output import print_json, to_json
from mediagate_cli.progress import show_progress
from mediagate_cli.save_files import SaveTarget, outputs_of

if TYPE_CHECKING:
    from mediagate.v1.generation_pb2 import Generation
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
    target: SaveTarget,
    generation_id: o.GenerationId,
    as_json: o.Json = False,
) -> None:
    """Save the outputs of a generation, at its end: media, or its text or JSON, as files.

    Of one that failed or was cancelled, the text as far as it came.
    """
    target.check(may_be_text=True)

    async def work(client: "AsyncClient") -> None:
        from mediagate_client.generation_result import raise_for_failure

        generation = await show_progress(client, await client.get(generation_id))
        if outputs_of(generation):
            await save_and_print(client, generation, SaveOptions(target, generation_id, as_json))
        raise_for_failure(generation, raise_on_failure=True)
        if not outputs_of(generation):
            print_error(f"{generation_id} has no output to save{_why_not(generation)}")
            raise typer.Exit(REFUSED)

    run_with_client(server, work)


def _why_not(generation: "Generation") -> str:
    if generation.HasField("erase_time"):
        erased = generation.erase_time.ToDatetime().isoformat(" ", "seconds")
        return f": it was erased at {erased} UTC"
    return f"; `mediagate show {generation.id}` shows it"
