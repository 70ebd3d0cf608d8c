"""Violations of one request, and the error built from them."""

import json
from dataclasses import dataclass, field
from typing import Final

from mediagate_server.errors import (
    InvalidRequest,
    MediagateError,
    MediaTooLarge,
    NotImplementedYet,
    Violation,
)

_MAX_VIOLATIONS: Final = 64
"""Nobody reads more, and a request can be made to hold a million."""

_MAX_NAME_CHARS: Final = 64
"""Of a key that a caller chose."""
_MAX_PATH_STEPS: Final = 40

FieldPath = tuple["FieldPath | None", "str | int | MapKey"]
"""Where a value is: the path of what it is in, and its name, index or key there.

It is written out for an error only: a request may hold ten thousand values.
"""


@dataclass(frozen=True, slots=True)
class MapKey:
    """A step to the value under a key of a map."""

    key: str | int


def format_path(path: FieldPath | None) -> str:
    """Format a path as errors name fields: `options.labels["team"]`, `messages[3].parts`."""
    steps: list[str] = []
    while path is not None:
        path, step = path
        if isinstance(step, str):
            steps.append(f".{step[:_MAX_NAME_CHARS]}")
        elif isinstance(step, int):
            steps.append(f"[{step}]")
        else:
            key = step.key
            steps.append(f"[{json.dumps(key[:_MAX_NAME_CHARS] if isinstance(key, str) else key)}]")
    return "".join(reversed(steps[-_MAX_PATH_STEPS:])).removeprefix(".")


@dataclass(slots=True)
class ViolationCollector:
    """Collects the violations of one request."""

    violations: list[Violation] = field(default_factory=list)
    too_large: list[Violation] = field(default_factory=list)
    unimplemented: str = ""

    def add(self, path: FieldPath | None, description: str) -> None:
        """Add a violation of a field; without a path, of the request itself."""
        if len(self.violations) < _MAX_VIOLATIONS:
            self.violations.append(Violation(format_path(path) or "request", description))

    def add_too_large(self, path: FieldPath | None, description: str) -> None:
        """Add a medium that exceeds its size limit."""
        if len(self.too_large) < _MAX_VIOLATIONS:
            self.too_large.append(Violation(format_path(path), description))

    def add_unimplemented(self, path: FieldPath | None) -> None:
        """Add a field that this server does not implement yet."""
        self.unimplemented = self.unimplemented or format_path(path)

    def error(self) -> MediagateError | None:
        """The error built from the violations; None: there are none."""
        if self.unimplemented:
            return NotImplementedYet(self.unimplemented, field_path=self.unimplemented)
        if self.violations:
            return InvalidRequest(*self.violations, *self.too_large)
        if self.too_large:
            return MediaTooLarge(*self.too_large)
        return None
