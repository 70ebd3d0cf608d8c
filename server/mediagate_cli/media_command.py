"""Shared part of the commands `image`, `video` and `audio`: submit, progress, save, print."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mediagate_cli.connection import run_with_client
from mediagate_cli.output import print_outputs
from mediagate_cli.progress import show_progress
from mediagate_cli.save_files import check_output_path, print_saved_file, save_outputs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mediagate.v1.generation_pb2 import Generation
    from mediagate_cli.options import ServerOptions
    from mediagate_client import AsyncClient

    Submit = Callable[[AsyncClient], Awaitable[Generation]]


@dataclass(frozen=True, slots=True)
class SaveOptions:
    """Where outputs are saved, and how they are printed."""

    output: str | None
    prompt: str
    """Files are named after it where `output` is no file."""
    as_json: bool


def run_media_command(server: "ServerOptions", submit: "Submit", options: SaveOptions) -> None:
    """Submit a generation, show its progress, save its outputs and print their cost.

    `submit` must not wait for the end: only a generation with a known id can be cancelled.
    """
    check_output_path(options.output)

    async def work(client: "AsyncClient") -> None:
        generation = await show_progress(client, await submit(client))
        files = await save_outputs(client, generation, options.output, options.prompt)
        if options.as_json:
            print_outputs(generation, files)
        else:
            print_saved_file(generation, files)

    run_with_client(server, work)
