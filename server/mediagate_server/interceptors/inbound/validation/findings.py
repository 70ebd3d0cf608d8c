"""What a walk through one request finds wrong with it, and the error that it comes to."""

from dataclasses import dataclass, field

from mediagate_server.errors import (
    InvalidRequest,
    MediagateError,
    MediaTooLarge,
    NotBuilt,
    Violation,
)

_ENOUGH = 64
"""Nobody reads more, and a request can be made to hold a million."""


@dataclass(slots=True)
class Findings:
    """Everything wrong with one request."""

    violations: list[Violation] = field(default_factory=list)
    too_large: list[Violation] = field(default_factory=list)
    not_built: str = ""

    def add(self, path: str, description: str) -> None:
        """A field that can never be as it is."""
        if len(self.violations) < _ENOUGH:
            self.violations.append(Violation(path, description))

    def add_too_large(self, path: str, description: str) -> None:
        """A medium that is over its limit."""
        if len(self.too_large) < _ENOUGH:
            self.too_large.append(Violation(path, description))

    def add_not_built(self, path: str) -> None:
        """A field that this server does not serve yet."""
        self.not_built = self.not_built or path

    def error(self) -> MediagateError | None:
        """The one error to answer with; None: nothing is wrong."""
        if self.not_built:
            return NotBuilt(self.not_built, field_path=self.not_built)
        if self.violations:
            return InvalidRequest(*self.violations, *self.too_large)
        if self.too_large:
            return MediaTooLarge(*self.too_large)
        return None
