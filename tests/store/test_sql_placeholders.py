"""SQL placeholders that every Python binds: 3.12 deprecates numbered ones with a sequence."""

import ast
import re
from pathlib import Path

import mediagate_server

_NUMBERED = re.compile(r"\?\d")


def test_no_statement_has_numbered_placeholders() -> None:
    """A budget's statement had one: Python 3.12 warns of it, which is an error here."""
    statements = [
        f"{path.name}:{node.lineno}"
        for path in Path(mediagate_server.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and _NUMBERED.search(node.value)
    ]
    assert statements == []
