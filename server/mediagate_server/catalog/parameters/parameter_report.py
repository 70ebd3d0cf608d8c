"""Report of what became of a parameter of the request: applied, mapped, clamped or dropped."""

from enum import StrEnum

from msgspec import Struct


class ParameterHandling(StrEnum):
    """What became of a parameter that the caller set."""

    HONOURED = "honoured"
    ADJUSTED = "adjusted"
    EMULATED = "emulated"
    DROPPED = "dropped"


class ParameterReport(Struct, frozen=True):
    """One set parameter and its fate. `requested` and `sent` are short, printable values.

    Prompts and media are never printed here: for them both are empty.
    """

    parameter: str
    handling: ParameterHandling
    requested: str = ""
    sent: str = ""
    reason: str = ""
