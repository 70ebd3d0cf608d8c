"""Output: messages as JSON for programs, tables for people."""

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from mediagate_cli.format import format_usd
from mediagate_cli.standard_streams import is_unicode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from google.protobuf.message import Message
    from rich.console import Console

_NANOS: Final = "_nanos"
_LEAST_WIDTH: Final = 60
"""Columns that a table is given even where the terminal has fewer: it wraps lines by itself."""


def to_json(message: "Message") -> object:
    """Return a message as proto JSON with the contract's own field names, amounts in dollars.

    A field `..._usd_nanos` becomes `..._usd`, an exact decimal number in a string.
    """
    from google.protobuf.json_format import MessageToDict

    document = MessageToDict(message, preserving_proto_field_name=True)
    if isinstance(document, dict):
        _convert_amounts(message, document)
    return document


def _convert_amounts(message: "Message", document: "dict[str, Any]") -> None:
    """Replace the amounts of a message in its JSON. Maps and JSON of users have none."""
    if message.DESCRIPTOR.file.package != "mediagate.v1":
        return
    for field, value in message.ListFields():
        if field.name.endswith(_NANOS):
            amount = document.pop(field.name)
            document[field.name.removesuffix(_NANOS)] = format_usd(int(amount)).removeprefix("$")
        elif field.message_type and not field.message_type.GetOptions().map_entry:
            inner = document[field.name]
            pairs = zip(value, inner, strict=True) if isinstance(inner, list) else [(value, inner)]
            for part, part_document in pairs:
                if isinstance(part_document, dict):
                    _convert_amounts(part, part_document)


def print_json(value: object) -> None:
    """Print one JSON document to stdout, in ASCII where its encoding has not every character."""
    text = json.dumps(value, indent=2, ensure_ascii=not is_unicode(sys.stdout))
    # A file name that is no UTF-8 holds surrogates: their escapes are JSON, their bytes are not.
    print(text.encode("utf-8", "backslashreplace").decode())


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
    width = max(console.width, _LEAST_WIDTH) if console.is_terminal else 240
    return Console(width=width, highlight=False, markup=False)
