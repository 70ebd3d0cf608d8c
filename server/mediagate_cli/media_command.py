"""Shared part of the commands that make files: submit, progress, save, print."""

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mediagate_cli.connection import run_with_client
from mediagate_cli.output import print_outputs
from mediagate_cli.progress import follow_submitted, hint_on_error, print_unanswered
from mediagate_cli.save_files import SaveTarget, print_saved_files, save_outputs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mediagate.v1.generation_pb2 import Generation
    from mediagate_cli.options import ServerOptions
    from mediagate_client import AsyncClient

    Submit = Callable[[AsyncClient], Awaitable[Generation]]


@dataclass(frozen=True, slots=True)
class SaveOptions:
    """Where outputs are saved, and how they are printed."""

    target: SaveTarget
    prompt: str
    """Files are named after it where the target is no file."""
    as_json: bool


def run_media_command(server: "ServerOptions", submit: "Submit", options: SaveOptions) -> None:
    """Submit a generation, show its progress, save its outputs and print their cost.

    `submit` must not wait for the end: only a generation with a known id can be cancelled.
    """

    async def work(client: "AsyncClient") -> None:
        generation = await submit_and_follow(client, submit)
        with hint_on_error(generation.id):
            await save_and_print(client, generation, options)

    run_with_client(server, work)


async def submit_and_follow(client: "AsyncClient", submit: "Submit") -> "Generation":
    """Submit a generation and wait for its end."""
    try:
        submitted = await submit(client)
    except asyncio.CancelledError:
        print_unanswered()
        raise
    return await follow_submitted(client, submitted)


async def save_and_print(
    client: "AsyncClient", generation: "Generation", options: SaveOptions
) -> None:
    """Save the outputs of a generation, and print the files and what they cost."""
    files = await save_outputs(client, generation, options.target, options.prompt)
    if options.as_json:
        print_outputs(generation, files)
    else:
        print_saved_files(generation, files)
    sys.stdout.flush()
