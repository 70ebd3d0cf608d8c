"""Parameter report: a parameter was honoured, adjusted, emulated or dropped, and why."""

from enum import StrEnum

from msgspec import Struct


class ParameterHandling(StrEnum):
    """Handling of a parameter that the caller set."""

    HONOURED = "honoured"
    ADJUSTED = "adjusted"
    EMULATED = "emulated"
    DROPPED = "dropped"


class ParameterReport(Struct, frozen=True):
    """Report of one parameter. `requested` and `sent` are short, printable values.

    Prompts and media are never printed: for them both are empty.
    """

    parameter: str
    handling: ParameterHandling
    requested: str = ""
    sent: str = ""
    reason: str = ""
