"""The README's first call, as a program of its own."""

import sys
from pathlib import Path

from tests.server_process import ServerProcess

from .program_result import RUN_SECONDS, run
from .readme_examples import example


def test_the_example_of_the_readme(server_process: ServerProcess, tmp_path: Path) -> None:
    """It streams a text, makes a picture, and says where it is and what it cost."""
    program = tmp_path / "program.py"
    program.write_text(example("python", server_process.address))
    printed = run([sys.executable, str(program)], tmp_path, RUN_SECONDS)
    assert printed.endswith(" USD\n")
    assert "http" in printed
