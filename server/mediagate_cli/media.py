"""What `image`, `video` and `audio` have in common: begin, follow, save, tell."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mediagate_cli.connection import with_gate
from mediagate_cli.following import follow
from mediagate_cli.saving import refuse_bad_output, save, tell
from mediagate_cli.shown import print_made

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mediagate.v1.generation_pb2 import Generation
    from mediagate_cli.options import Gate
    from mediagate_client import AsyncClient

    Begin = Callable[[AsyncClient], Awaitable[Generation]]


@dataclass(frozen=True, slots=True)
class Saving:
    """Where outputs go, and how they are told of."""

    output: str | None
    named: str
    """What the files are named after, where `output` is no file."""
    as_json: bool


def make(gate: "Gate", begin: "Begin", saving: Saving) -> None:
    """Begin a generation, show it while it is made, save its outputs and say what they cost.

    `begin` must not wait for the end: only what has an id can be cancelled at once by Ctrl-C.
    """
    refuse_bad_output(saving.output)

    async def work(client: "AsyncClient") -> None:
        generation = await follow(client, await begin(client))
        files = await save(client, generation, saving.output, saving.named)
        if saving.as_json:
            print_made(generation, files)
        else:
            tell(generation, files)

    with_gate(gate, work)
