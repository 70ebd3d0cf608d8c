"""The README's first call, as a program of its own."""

import sys
from pathlib import Path

from tests.gate import Gate

from .outcome import RUN_SECONDS, run
from .readme import example


def test_the_example_of_the_readme(gate: Gate, tmp_path: Path) -> None:
    """It streams a text, makes a picture, and says where it is and what it cost."""
    program = tmp_path / "program.py"
    program.write_text(example("python", gate.address))
    printed = run([sys.executable, str(program)], tmp_path, RUN_SECONDS)
    assert printed.endswith(" USD\n")
    assert "http" in printed
