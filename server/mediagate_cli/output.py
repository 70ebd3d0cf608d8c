"""Output: messages as JSON for programs, tables for people."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from google.protobuf.message import Message
    from rich.console import Console


def to_json(message: "Message") -> object:
    """Return a message as proto JSON with the contract's own field names."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True)


def print_json(value: object) -> None:
    """Print one JSON document to stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_outputs(generation: "Message", files: "Sequence[Path]" = ()) -> None:
    """Print a generation and the files that its outputs were saved as, as JSON."""
    print_json({"generation": to_json(generation), "files": [str(file) for file in files]})


def enum_word(enum: str, number: int) -> str:
    """Return a value of the enum Modality or Quality as a word; empty if unspecified."""
    from mediagate.v1 import modality_pb2

    name = modality_pb2.DESCRIPTOR.enum_types_by_name[enum].values_by_number[number].name
    word = str(name).removeprefix(f"{enum.upper()}_").lower()
    return "" if word == "unspecified" else word


def wide_console() -> "Console":
    """Return a console for stdout: 240 columns wide where it is no terminal."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(width=240, highlight=False, markup=False)
