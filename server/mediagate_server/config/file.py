"""Configuration file: TOML, parsed, with the line of each key; and configuration errors.

An error never repeats a value: it may be a secret.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from mediagate_server.errors import MediagateError

_TOML_ERROR: Final = re.compile(r"(?P<words>.*) \(at line (?P<line>\d+), column (?P<column>\d+)\)")


class ConfigError(MediagateError):
    """Configuration error. The text is for people and names the file, the line and the key."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One configuration error. `where`: file and line, or the environment; `name`: of the key."""

    where: str
    name: str
    message: str

    def __str__(self) -> str:
        return ": ".join(segment for segment in (self.where, self.name, self.message) if segment)


def config_error(problems: Sequence[ConfigProblem]) -> ConfigError:
    """Join errors to one, a line each."""
    return ConfigError("\n".join(str(problem) for problem in problems))


def validation_problems(error: ValidationError) -> Iterator[tuple[list[str], str, str]]:
    """Pydantic's errors: path of the field, pydantic's type of the error, and message."""
    for problem in error.errors(include_url=False, include_input=False):
        path = [str(key) for key in problem["loc"]]
        yield path, problem["type"], problem["msg"].removeprefix("Value error, ")


def read_config_text(path: Path) -> str:
    """Read a UTF-8 text file with LF line ends. Raises ConfigError, with the line of bad bytes."""
    try:
        # A byte order mark is accepted: nobody can see it.
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: is not UTF-8") from None


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """Parsed TOML file. The meaning of its keys is not known here."""

    path: Path
    text: str
    document: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "ConfigFile":
        """Read and parse. Raises ConfigError, with the line of what is not TOML."""
        text = read_config_text(path)
        try:
            return cls(path, text, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise config_error([_syntax_problem(path, text, str(error))]) from None

    def location(self, *keys: str) -> str:
        """File and line of a key, for error messages."""
        return f"{self.path}, line {find_line(self.text, *keys)}"


def find_line(text: str, *keys: str) -> int:
    """Line, from 1, on which a key of a document is set. The document must have it.

    Found by parsing ever longer prefixes: the first that has the key ends with its value, which may
    have begun some lines before.
    """
    lines = text.split("\n")
    complete = 0
    for count in range(1, len(lines) + 1):
        try:
            document = tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        if _has_key(document, keys):
            return next(
                number
                for number in range(complete + 1, count + 1)
                if (line := lines[number - 1].strip()) and not line.startswith("#")
            )
        complete = count
    return len(lines)


def _has_key(document: Any, keys: tuple[str, ...]) -> bool:
    for key in keys:
        if isinstance(document, list):
            document = document[-1] if document else None
        if not isinstance(document, dict) or key not in document:
            return False
        document = document[key]
    return True


def _syntax_problem(path: Path, text: str, parser_message: str) -> ConfigProblem:
    """The parser's error with its line. Its message names no values, only what it expected."""
    match = _TOML_ERROR.fullmatch(parser_message)
    if match is None:
        last = text.rstrip("\n").count("\n") + 1
        return ConfigProblem(f"{path}, line {last}", "", "ends in the middle of something")
    message = f"is not TOML: {match['words'].lower()} (column {match['column']})"
    return ConfigProblem(f"{path}, line {match['line']}", "", message)
