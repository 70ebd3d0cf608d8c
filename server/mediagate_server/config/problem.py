"""What is wrong with a configuration, in words for people. Never a value: it may be a secret."""

from collections.abc import Sequence
from dataclasses import dataclass

from mediagate_server.errors import MediagateError


class ConfigError(MediagateError):
    """A setting is wrong. The text is for people and names the file, the line and the key."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `where`: a file and line, or the environment; `name`: of a key."""

    where: str
    name: str
    words: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.name, self.words) if part)


def error_of(problems: Sequence[Problem]) -> ConfigError:
    """All of them in one error, a line each."""
    return ConfigError("\n".join(str(problem) for problem in problems))
