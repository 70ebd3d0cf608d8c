"""Command `text`: a streamed text in the terminal."""

from typing import TYPE_CHECKING, Annotated

import typer

from mediagate_cli import options as o
from mediagate_cli.connection import run_with_client
from mediagate_cli.exit_codes import print_error
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.progress import format_start_time

if TYPE_CHECKING:
    from mediagate.v1.text_pb2 import TextStatus
    from mediagate_client import AsyncClient, AsyncTextStream


@expand_option_groups
def text(
    server: o.ServerOptions,
    run: o.RunOptions,
    prompt: o.Prompt,
    system: Annotated[str | None, typer.Option(help="How the model should behave.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The most tokens to write.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Randomness, 0 to 2.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus sampling, 0 to 1.")] = None,
    reasoning: Annotated[
        str | None, typer.Option(help="How much to think first: none, minimal, low, … xhigh.")
    ] = None,
    seed: o.Seed = None,
    as_json: o.Json = False,
) -> None:
    """Stream a text to the terminal. Its cost is printed on stderr."""
    prompt_text = o.read_prompt(prompt)
    fields = run.fields() | {
        "system_prompt": system,
        "max_output_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "reasoning_effort": reasoning,
        "seed": seed,
    }

    async def work(client: "AsyncClient") -> None:
        from mediagate.v1.text_pb2 import StreamTextRequest
        from mediagate_client import billable_request

        request = billable_request(StreamTextRequest, prompt_text, fields)
        async with client.stream_text(request, on_status=_print_queue_position) as stream:
            if as_json:
                from mediagate_cli.output import print_outputs

                await stream.read()
                print_outputs(await client.get(stream.generation_id))
            else:
                await _print_stream(stream)

    run_with_client(server, work)


async def _print_stream(stream: "AsyncTextStream") -> None:
    """Print the text as it comes; at the end, on stderr, the generation's id, model and cost."""
    from mediagate_cli.format import summary_line

    last = "\n"
    async for piece in stream:
        if piece.text:
            print(piece.text, end="", flush=True)
            last = piece.text
    if not last.endswith("\n"):
        print()
    if stream.started is None or stream.completed is None:
        return
    completed = stream.completed
    print_error(
        summary_line(
            stream.generation_id,
            completed.model,
            completed.cost,
            sandbox=stream.started.sandbox,
            tokens=completed.usage.output_tokens,
        )
    )


def _print_queue_position(status: "TextStatus") -> None:
    if status.HasField("queue_position"):
        wait = format_start_time(status.expected_wait.ToTimedelta().total_seconds())
        print_error(f"waiting at place {status.queue_position}{wait}")
