"""Options that several commands share, and the texts that they read."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from mediagate_cli.exit_codes import INTERRUPTED, print_error
from mediagate_cli.format import parse_usd_nanos
from mediagate_cli.standard_streams import is_stdout_closed

DEFAULT_TARGET = "127.0.0.1:50051"
MAX_PROMPT_BYTES: Final = 4_000_000
"""As many as a prompt of the contract's 1,000,000 characters may have."""
MAX_FILE_BYTES: Final = 64 * 1024**2


class QualityName(StrEnum):
    """Quality tier of models, for `--quality`."""

    ECONOMY = "economy"
    STANDARD = "standard"
    PREMIUM = "premium"


class WhenUnconfirmed(StrEnum):
    """What to do while it is in doubt whether a create was taken, for `--when-unconfirmed`."""

    WAIT = "wait"
    NEXT = "next"


class ModalityName(StrEnum):
    """Modality of models, for `--modality`."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"


MEDIUM = "Path, URL or kept id"
"""Help text of a medium. Ids are gen_..., gen_.../1 and upl_...: the client parses them."""

Prompt = Annotated[str, typer.Argument(help="What is wanted. `-` reads it from stdin.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Seed = Annotated[int | None, typer.Option(help="Makes runs repeatable.")]
GenerationId = Annotated[str, typer.Argument(help="Its id.", metavar="GENERATION")]
Negative = Annotated[str | None, typer.Option("--negative", help="What is not wanted.")]
Size = Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")]
AspectRatio = Annotated[str | None, typer.Option(help="For example 16:9.")]
Reference = Annotated[
    list[str] | None,
    typer.Option(help=f"{MEDIUM} of something to look at; may be repeated."),
]


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Options of the connection: target, API key, TLS."""

    target: Annotated[
        str,
        typer.Option(
            help="host:port of the server.",
            envvar=["MEDIAGATE_TARGET", "MEDIAGATE_GRPC_ADDRESS"],
            rich_help_panel="Server",
        ),
    ] = DEFAULT_TARGET
    api_key: Annotated[
        str,
        typer.Option(
            help="The key to call with.",
            envvar="MEDIAGATE_API_KEY",
            show_envvar=True,
            rich_help_panel="Server",
        ),
    ] = ""
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS.", rich_help_panel="Server")] = False


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of every generation: model, quality, timeout, cost limit, labels, webhook."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Slug or alias; see `mediagate models`.",
            rich_help_panel="Generation",
        ),
    ] = None
    quality: Annotated[
        QualityName | None,
        typer.Option(
            help="What to choose by, where no model is named.", rich_help_panel="Generation"
        ),
    ] = None
    timeout: Annotated[
        float | None,
        typer.Option(
            help="Seconds until it is given up, queueing included.",
            rich_help_panel="Generation",
        ),
    ] = None
    max_cost: Annotated[
        str | None,
        typer.Option(help="The most it may cost, in dollars: 0.05.", rich_help_panel="Generation"),
    ] = None
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="KEY=VALUE for your own bills; may be repeated.", rich_help_panel="Generation"
        ),
    ] = None
    webhook_url: Annotated[
        str | None,
        typer.Option(
            help="URL that the server posts the end to; see `mediagate webhooks`.",
            rich_help_panel="Generation",
        ),
    ] = None
    when_unconfirmed: Annotated[
        WhenUnconfirmed | None,
        typer.Option(
            help="While it is in doubt whether a run was begun: wait, or run the next model too, "
            "which may cost both; next needs --max-cost.",
            rich_help_panel="Generation",
        ),
    ] = None
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Refuse what the model cannot honour exactly.",
            rich_help_panel="Generation",
        ),
    ] = False

    def fields(self) -> dict[str, object]:
        """Return them as fields of the contract; None: not set. Raises BadParameter."""
        return {
            "model": self.model,
            "quality": self.quality,
            "timeout": self.timeout,
            "max_cost_usd_nanos": None if self.max_cost is None else parse_usd_nanos(self.max_cost),
            "labels": parse_labels(self.label),
            "webhook_url": self.webhook_url,
            "when_unconfirmed": self.when_unconfirmed,
            "parameter_mode": "strict" if self.strict else None,
        }


def check_stdout() -> None:
    """Raise BadParameter, before anything is paid, where stdout is closed."""
    if is_stdout_closed():
        raise typer.BadParameter("standard output is closed: there is no place for the result")


def read_prompt(prompt: str) -> str:
    """Return the prompt, read from stdin where it is `-`. Raises BadParameter."""
    if prompt != "-":
        return decode_argument(prompt, "PROMPT")
    text = _read_stdin(MAX_PROMPT_BYTES, "PROMPT").rstrip("\n")
    if not text.strip():
        raise typer.BadParameter("standard input is empty", param_hint="PROMPT")
    return text


def read_text(file: Path) -> str:
    """Read a text file, or stdin for `-`. BadParameter if it is not UTF-8 or unreadable."""
    if str(file) == "-":
        return _read_stdin(MAX_FILE_BYTES, "FILE")
    try:
        return decode_text(file.read_bytes(), str(file), "FILE")
    except OSError as error:
        problem = error.strerror or "cannot be read"
        raise typer.BadParameter(f"{file}: {problem}", param_hint="FILE") from None


def decode_argument(value: str, name: str) -> str:
    """Return an argument of the command line as text: UTF-8, or in the terminal's encoding.

    Raises BadParameter for bytes that are neither.
    """
    if not any("\ud800" <= character <= "\udfff" for character in value):
        return value
    return decode_text(os.fsencode(value), "it", name)


def decode_fields(fields: dict[str, object]) -> dict[str, object]:
    """Decode the texts among a request's fields; a path of a file stays as it is."""
    return {
        name: decode_argument(value, f"--{name.replace('_', '-')}")
        if isinstance(value, str) and not os.path.exists(value)  # noqa: PTH110 - also of NUL, or long
        else value
        for name, value in fields.items()
    }


def decode_text(data: bytes, source: str, name: str) -> str:
    """Decode a text: UTF-8, else the terminal's encoding. BadParameter if it is neither."""
    encodings = ("utf-8-sig", getattr(sys.stdin, "encoding", None) or "utf-8")
    position = 0
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            position = error.start
        else:
            return text.replace("\r\n", "\n").replace("\r", "\n")
    raise typer.BadParameter(f"{source} is not a text in UTF-8 (byte {position})", param_hint=name)


def _read_stdin(limit: int, name: str) -> str:
    """Read stdin to its end, and at most `limit` bytes. Raises BadParameter."""
    if sys.stdin is None:
        raise typer.BadParameter("standard input is closed", param_hint=name)
    try:
        data = sys.stdin.buffer.read(limit + 1)
    except OSError as error:
        raise typer.BadParameter(f"standard input: {error.strerror}", param_hint=name) from None
    except KeyboardInterrupt:
        print_error("mediagate: interrupted")
        raise typer.Exit(INTERRUPTED) from None
    if len(data) > limit:
        raise typer.BadParameter(f"standard input is over {limit:,} bytes", param_hint=name)
    return decode_text(data, "standard input", name)


def parse_labels(pairs: Sequence[str] | None) -> dict[str, str] | None:
    """Parse KEY=VALUE pairs. Raises BadParameter."""
    if not pairs:
        return None
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--label")
        labels[decode_argument(key, "--label")] = decode_argument(value, "--label")
    return labels
