"""Command `check`: safety verdict on a text."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mediagate_cli import options as o
from mediagate_cli.connection import run_with_client
from mediagate_cli.format import format_verdict
from mediagate_cli.media_command import submit_and_follow
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.output import print_outputs
from mediagate_cli.progress import hint_on_error
from mediagate_cli.save_files import print_summary

if TYPE_CHECKING:
    from mediagate.v1.generation_pb2 import Generation
    from mediagate_client import AsyncClient


@expand_option_groups
def check(
    server: o.ServerOptions,
    run: o.RunOptions,
    content: Annotated[str, typer.Argument(help="The text to check. `-` reads it from stdin.")],
    answers: Annotated[
        str | None,
        typer.Option(help="The user's words that the content answers: it is judged as a reply."),
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Ask a safety model whether a text is safe. Prints `safe`, or `unsafe` and why."""
    o.check_stdout()
    text = o.read_prompt(content)
    fields: dict[str, object] = run.fields() | {"wait": 0}
    if answers is not None:
        fields |= {"role": "assistant", "context": o.decode_argument(answers, "--answers")}

    async def submit(client: "AsyncClient") -> "Generation":
        from mediagate.v1.safety_pb2 import CheckSafetyRequest
        from mediagate_client import billable_request

        return await client.check_safety(billable_request(CheckSafetyRequest, text, fields))

    async def work(client: "AsyncClient") -> None:
        generation = await submit_and_follow(client, submit)
        with hint_on_error(generation.id, "show"):
            if as_json:
                print_outputs(generation)
            else:
                print(format_verdict(generation.safety))
            sys.stdout.flush()
        if not as_json:
            print_summary(generation)

    run_with_client(server, work)
