"""Options that several commands share."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mediagate_cli.format import parse_usd_nanos

DEFAULT_TARGET = "127.0.0.1:50051"


class QualityName(StrEnum):
    """Quality tier of models, for `--quality`."""

    ECONOMY = "economy"
    STANDARD = "standard"
    PREMIUM = "premium"


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
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", help="File, or folder, to save to. Default: after the prompt."),
]
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
            "parameter_mode": "strict" if self.strict else None,
        }


def read_prompt(prompt: str) -> str:
    """Return the prompt, read from stdin where it is `-`."""
    return sys.stdin.read().rstrip("\n") if prompt == "-" else prompt


def read_text(file: Path) -> str:
    """Read a text file, or stdin for `-`. BadParameter if it is not UTF-8 or unreadable."""
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is not a text in UTF-8", param_hint="FILE") from None
    except OSError as error:
        problem = error.strerror or "cannot be read"
        raise typer.BadParameter(f"{file}: {problem}", param_hint="FILE") from None


def parse_labels(pairs: Sequence[str] | None) -> dict[str, str] | None:
    """Parse KEY=VALUE pairs. Raises BadParameter."""
    if not pairs:
        return None
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--label")
        labels[key] = value
    return labels
