"""Where in a model file something stands: for people who have to mend it."""

import re
from dataclasses import dataclass
from typing import Final

_HEADER: Final = re.compile(r"\s*\[\[\s*model\s*\]\]")


@dataclass(frozen=True, slots=True)
class Place:
    """One `[[model]]` of a file: the one at this position, from 0."""

    file: str
    text: str
    position: int
    slug: str

    def complaint(self, where: str, what: str) -> str:
        """What is wrong, with file, line, model and field."""
        parts = (self.file, self.slug, where, f"{what} (line {self.line(where)})")
        return ": ".join(part for part in parts if part)

    def line(self, where: str) -> int:
        """The line, from 1, of a field of the model: that of the longest part of its path that the
        entry writes itself, else that of the entry.
        """
        lines = self.text.split("\n")
        headers = [number for number, line in enumerate(lines, 1) if _HEADER.match(line)]
        if self.position >= len(headers):
            return 1
        begin = headers[self.position]
        end = headers[self.position + 1] if self.position + 1 < len(headers) else len(lines) + 1
        found = begin
        for name in where.split(".") if where else ():
            key = re.compile(rf"\s*(?:\[model\.)?[\"']?{re.escape(name)}[\"']?\s*(?:=|\]|\.)")
            after = range(found, end)
            found = next((n for n in after if key.match(lines[n - 1])), found)
        return found
