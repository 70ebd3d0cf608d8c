"""What several commands may be told: one name, one meaning, one help text each."""

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
    """A price class."""

    ECONOMY = "economy"
    STANDARD = "standard"
    PREMIUM = "premium"


class ModalityName(StrEnum):
    """What a model makes."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"


MEDIUM = "Path, URL or kept id"
"""What may stand for a medium. Ids are gen_..., gen_.../1 and upl_...: the client reads them."""

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
    """Which gate is called, and with which key."""

    target: Annotated[
        str,
        typer.Option(
            help="host:port of the gate.",
            envvar=["MEDIAGATE_TARGET", "MEDIAGATE_GRPC_ADDRESS"],
            rich_help_panel="Which gate",
        ),
    ] = DEFAULT_TARGET
    api_key: Annotated[
        str,
        typer.Option(
            help="The key to call with.",
            envvar="MEDIAGATE_API_KEY",
            show_envvar=True,
            rich_help_panel="Which gate",
        ),
    ] = ""
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS.", rich_help_panel="Which gate")] = (
        False
    )


@dataclass(frozen=True, slots=True)
class RunOptions:
    """By which model something is made, how long it may take, and for how much."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Slug or alias; see `mediagate models`.",
            rich_help_panel="How it is run",
        ),
    ] = None
    quality: Annotated[
        QualityName | None,
        typer.Option(
            help="What to choose by, where no model is named.", rich_help_panel="How it is run"
        ),
    ] = None
    timeout: Annotated[
        float | None,
        typer.Option(
            help="Seconds until it is given up, queueing included.",
            rich_help_panel="How it is run",
        ),
    ] = None
    max_cost: Annotated[
        str | None,
        typer.Option(
            help="The most it may cost, in dollars: 0.05.", rich_help_panel="How it is run"
        ),
    ] = None
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="KEY=VALUE for your own bills; may be repeated.", rich_help_panel="How it is run"
        ),
    ] = None
    webhook_url: Annotated[
        str | None,
        typer.Option(
            help="Where the gate tells of the end; see `mediagate webhooks`.",
            rich_help_panel="How it is run",
        ),
    ] = None
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Refuse what the model cannot honour exactly.",
            rich_help_panel="How it is run",
        ),
    ] = False

    def fields(self) -> dict[str, object]:
        """Return it as fields of the contract; None is not said. BadParameter if it is wrong."""
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
    """Return what a text file holds, stdin where it is `-`. BadParameter if it is no text."""
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is not a text in UTF-8", param_hint="FILE") from None
    except OSError as error:
        problem = error.strerror or "cannot be read"
        raise typer.BadParameter(f"{file}: {problem}", param_hint="FILE") from None


def parse_labels(pairs: Sequence[str] | None) -> dict[str, str] | None:
    """Return KEY=VALUE pairs as labels. BadParameter for what is no pair."""
    if not pairs:
        return None
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--label")
        labels[key] = value
    return labels
