"""What `image`, `video` and `audio` have in common: begin, follow, save, tell."""

from typing import TYPE_CHECKING

from mediagate_cli.connection import gate_at
from mediagate_cli.following import follow

if TYPE_CHECKING:
    from collections.abc import Callable

    from mediagate.v1.generation_pb2 import Generation
    from mediagate_client import Client


def make(
    begin: "Callable[[Client], Generation]",
    *,
    named: str,
    output: str | None,
    as_json: bool,
    target: str,
    api_key: str,
    tls: bool,
) -> None:
    """Begin a generation, show it while it is made, save its outputs and say what they cost.

    `begin` must not wait for the end: only what has an id can be cancelled at once by Ctrl-C.
    """
    from mediagate_cli.saving import refuse_bad_output, save, tell
    from mediagate_cli.shown import print_made

    refuse_bad_output(output)
    with gate_at(target, api_key, tls=tls) as client:
        generation = follow(client, begin(client))
        files = save(client, generation, output, named)
        if as_json:
            print_made(generation, files)
        else:
            tell(generation, files)
