"""What `image`, `video` and `audio` have in common: begin, follow, save, tell."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mediagate_cli.connection import run_with_client
from mediagate_cli.output import print_outputs
from mediagate_cli.progress import show_progress
from mediagate_cli.save_files import check_output_path, print_saved_file, save

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mediagate.v1.generation_pb2 import Generation
    from mediagate_cli.options import ServerOptions
    from mediagate_client import AsyncClient

    Begin = Callable[[AsyncClient], Awaitable[Generation]]


@dataclass(frozen=True, slots=True)
class SaveOptions:
    """Where outputs go, and how they are told of."""

    output: str | None
    named: str
    """What the files are named after, where `output` is no file."""
    as_json: bool


def run_media_command(gate: "ServerOptions", begin: "Begin", saving: SaveOptions) -> None:
    """Begin a generation, show it while it is made, save its outputs and say what they cost.

    `begin` must not wait for the end: only what has an id can be cancelled at once by Ctrl-C.
    """
    check_output_path(saving.output)

    async def work(client: "AsyncClient") -> None:
        generation = await show_progress(client, await begin(client))
        files = await save(client, generation, saving.output, saving.named)
        if saving.as_json:
            print_outputs(generation, files)
        else:
            print_saved_file(generation, files)

    run_with_client(gate, work)
