"""The Pythons that the tests also run on are found where they are installed."""

import runpy
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parents[2] / "scripts/check_interpreters.py"
find_interpreters = runpy.run_path(str(_SCRIPT))["find_interpreters"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on its PATH but a shim that answers for no version that is there."""
    shims = tmp_path / "shims"
    shims.mkdir()
    for name in ("python3", f"python3.{sys.version_info[1]}"):
        shim = shims / name
        shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
        shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(shims))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return tmp_path


@pytest.mark.parametrize(
    "home", ["pyenv/versions/3.99.0/bin", ".local/share/uv/python/cpython-3.99/bin"]
)
def test_an_interpreter_outside_the_path_is_found(elsewhere: Path, home: str) -> None:
    """As pyenv and uv keep them; what it says of itself counts, not the folder's name."""
    folder = elsewhere / home
    folder.mkdir(parents=True)
    (folder / "python3").symlink_to(sys.executable)
    assert [version for version, _ in find_interpreters()] == [sys.version_info[:2]]


def test_a_shim_without_a_version_is_ignored(elsewhere: Path) -> None:
    """And no reason to fail."""
    assert list(find_interpreters()) == []
