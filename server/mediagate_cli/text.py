"""Command `text`: a streamed text in the terminal."""

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from mediagate_cli import options as o
from mediagate_cli.connection import run_with_client
from mediagate_cli.exit_codes import FAILED, print_error
from mediagate_cli.format import stand_in_line, summary_line
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.progress import (
    format_start_time,
    print_interrupted,
    print_start,
    print_unanswered,
)
from mediagate_cli.standard_streams import write_stdout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mediagate.v1.text_pb2 import TextStarted, TextStatus
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
        str | None, typer.Option(help="How much to think first: none, minimal, low, ... xhigh.")
    ] = None,
    seed: o.Seed = None,
    as_json: o.Json = False,
) -> None:
    """Stream a text to the terminal. Its cost is printed on stderr."""
    o.check_stdout()
    prompt_text = o.read_prompt(prompt)
    fields = o.decode_fields(
        run.fields()
        | {
            "system_prompt": system,
            "max_output_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "reasoning_effort": reasoning,
            "seed": seed,
        }
    )

    async def work(client: "AsyncClient") -> None:
        from mediagate.v1.text_pb2 import StreamTextRequest
        from mediagate_client import billable_request

        request = billable_request(StreamTextRequest, prompt_text, fields)
        stream = client.stream_text(
            request, on_started=StartPrinter().print, on_status=_print_queue_position
        )
        with _result_hint(stream):
            try:
                async with stream:
                    await (_print_json(client, stream) if as_json else _print_stream(stream))
            except (asyncio.CancelledError, BrokenPipeError):
                await _print_end(client, stream.generation_id)
                raise

    run_with_client(server, work)


class StartPrinter:
    """Prints a stream's generation once, however often the stream is resumed."""

    def __init__(self) -> None:
        self._printed = False

    def print(self, started: "TextStarted") -> None:
        """Print its id, and the model that stands in for the one asked for."""
        if self._printed:
            return
        self._printed = True
        print_start(started.generation_id, started.model)
        if started.HasField("substitution"):
            print_error(stand_in_line(started.model, started.substitution))


async def _print_json(client: "AsyncClient", stream: "AsyncTextStream") -> None:
    """Print the generation with its whole text, of which a response has only the beginning."""
    from mediagate_cli.output import print_outputs

    text = await stream.read()
    generation = await client.get(stream.generation_id)
    generation.text.text = text
    print_outputs(generation)
    sys.stdout.flush()


async def _print_stream(stream: "AsyncTextStream") -> None:
    """Print the text as it comes; at the end, on stderr, the generation's id, model and cost.

    Where stdout fails the run goes on: its text can be had by id. Where its reader has left, which
    raises BrokenPipeError, it does not.
    """
    last = "\n"
    failure: OSError | None = None
    async for piece in stream:
        if failure is None and piece.text:
            failure = await _try_write(piece.text)
            last = piece.text
    if failure is None and not last.endswith("\n"):
        failure = await _try_write("\n")
    if stream.started is not None and stream.completed is not None:
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
    if failure is not None:
        print_error(f"  {_hint(stream)}")
        raise typer.Exit(FAILED)


async def _try_write(text: str) -> OSError | None:
    try:
        await write_stdout(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        print_error(f"mediagate: standard output: {error.strerror or error}; the run goes on")
        return error
    return None


async def _print_end(client: "AsyncClient", generation_id: str) -> None:
    """Print what became of a text that was interrupted, or whose reader has left."""
    if generation_id:
        await print_interrupted(client, generation_id)
    else:
        print_unanswered()


def _hint(stream: "AsyncTextStream") -> str:
    return f"`mediagate save {stream.generation_id} -o -` prints what it wrote, if anything"


@contextmanager
def _result_hint(stream: "AsyncTextStream") -> "Iterator[None]":
    """Context manager: an error after the start says how to get the text later."""
    from mediagate_client import MediagateError

    try:
        yield
    except BrokenPipeError:
        raise
    except (MediagateError, OSError) as error:
        if stream.generation_id:
            error.add_note(_hint(stream))
        raise


def _print_queue_position(status: "TextStatus") -> None:
    if status.HasField("queue_position"):
        wait = format_start_time(status.expected_wait.ToTimedelta().total_seconds())
        print_error(f"waiting at place {status.queue_position}{wait}")
