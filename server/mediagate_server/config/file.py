"""The configuration file as text: read, parsed, and searched for the line of a key."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mediagate_server.config.problem import Problem, error_of

_PLACE: Final = re.compile(r"(?P<words>.*) \(at line (?P<line>\d+), column (?P<column>\d+)\)")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file that is TOML. What its keys mean is not known here."""

    path: Path
    text: str
    document: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "ConfigFile":
        """Read and parse. Raises ConfigError, with the line of what is not TOML."""
        try:
            # A byte order mark is no mistake that a person can see.
            text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        except OSError as error:
            words = f"cannot be read: {error.strerror}"
            raise error_of([Problem(str(path), "", words)]) from None
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise error_of([Problem(f"{path}, line {line}", "", "is not UTF-8")]) from None
        try:
            return cls(path, text, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise error_of([_syntax_problem(path, text, str(error))]) from None

    def where(self, *keys: str) -> str:
        """File and line of a key, for people."""
        return f"{self.path}, line {line_of(self.text, *keys)}"


def line_of(text: str, *keys: str) -> int:
    """The line, from 1, on which a key of a document is set. The document must have it.

    Found by parsing ever longer parts: the first that has the key ends with its value, which may
    have begun some lines before.
    """
    lines = text.split("\n")
    whole = 0
    for count in range(1, len(lines) + 1):
        try:
            document = tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        if _has(document, keys):
            return next(
                number
                for number in range(whole + 1, count + 1)
                if (line := lines[number - 1].strip()) and not line.startswith("#")
            )
        whole = count
    return len(lines)


def _has(document: Any, keys: tuple[str, ...]) -> bool:
    for key in keys:
        if isinstance(document, list):
            document = document[-1] if document else None
        if not isinstance(document, dict) or key not in document:
            return False
        document = document[key]
    return True


def _syntax_problem(path: Path, text: str, message: str) -> Problem:
    """The parser's finding with its line. Its words name no values, only what it expected."""
    found = _PLACE.fullmatch(message)
    if found is None:
        last = text.rstrip("\n").count("\n") + 1
        return Problem(f"{path}, line {last}", "", "ends in the middle of something")
    words = f"is not TOML: {found['words'].lower()} (column {found['column']})"
    return Problem(f"{path}, line {found['line']}", "", words)
