"""What several commands may be told: one name, one meaning, one help text each."""

import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from mediagate_cli.money import nanos_of

GATE = "Which gate"
RUN = "How it is run"


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


Prompt = Annotated[str, typer.Argument(help="What is wanted. `-` reads it from stdin.")]
Target = Annotated[
    str,
    typer.Option(
        help="host:port of the gate.",
        envvar=["MEDIAGATE_TARGET", "MEDIAGATE_GRPC_ADDRESS"],
        rich_help_panel=GATE,
    ),
]
ApiKey = Annotated[
    str,
    typer.Option(help="The key to call with.", envvar="MEDIAGATE_API_KEY", rich_help_panel=GATE),
]
Tls = Annotated[bool, typer.Option("--tls", help="Speak TLS.", rich_help_panel=GATE)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Slug or alias; see `mediagate models`.")
]
Quality = Annotated[
    QualityName | None, typer.Option(help="What to choose by, where no model is named.")
]
Seed = Annotated[int | None, typer.Option(help="Makes runs repeatable.")]
Timeout = Annotated[
    float | None,
    typer.Option(help="Seconds until it is given up, queueing included.", rich_help_panel=RUN),
]
MaxCost = Annotated[
    str | None,
    typer.Option(help="The most it may cost, in dollars: 0.05.", rich_help_panel=RUN),
]
Label = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE for your own bills; may be repeated.", rich_help_panel=RUN),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Refuse what the model cannot honour exactly.", rich_help_panel=RUN
    ),
]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", help="File, or folder, to save to. Default: after the prompt."),
]
Negative = Annotated[str | None, typer.Option("--negative", help="What is not wanted.")]
Size = Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")]
AspectRatio = Annotated[str | None, typer.Option(help="For example 16:9.")]
Reference = Annotated[
    list[str] | None,
    typer.Option(help="Path or URL of something to look at or listen to; may be repeated."),
]

DEFAULT_TARGET = "127.0.0.1:50051"


def read_prompt(prompt: str) -> str:
    """Return the prompt, read from stdin where it is `-`."""
    return sys.stdin.read().rstrip("\n") if prompt == "-" else prompt


def run_options(
    model: str | None,
    quality: QualityName | None,
    timeout: float | None,
    max_cost: str | None,
    label: Sequence[str] | None,
    *,
    strict: bool,
) -> dict[str, object]:
    """Return how a call is run, as fields of the contract; None is not said."""
    return {
        "model": model,
        "quality": quality,
        "timeout": timeout,
        "max_cost_usd_nanos": None if max_cost is None else nanos_of(max_cost),
        "labels": labels_of(label),
        "parameter_mode": "strict" if strict else None,
    }


def labels_of(pairs: Sequence[str] | None) -> dict[str, str] | None:
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
