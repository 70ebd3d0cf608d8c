"""The blocking client is generated from the asyncio client."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "clients" / "python" / "mediagate_client"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of both clients, to be changed."""
    for name in ("aio", "sync"):
        shutil.copytree(PACKAGE / name, tmp_path / name)
    return tmp_path


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/generate_sync_client.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_blocking_client_is_fresh() -> None:
    """The committed modules are what `make generate` writes."""
    completed = generate("--check")
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_a_module_that_was_edited_is_stale(package: Path) -> None:
    """A check names it and changes nothing; writing puts it right."""
    edited = package / "sync" / "calls.py"
    original = edited.read_text()
    edited.write_text(original + "# By hand.\n")
    completed = generate("--check", "--client", str(package))
    assert completed.returncode == 1
    assert "stale: calls.py" in completed.stdout
    assert edited.read_text() != original
    assert generate("--client", str(package)).returncode == 0
    assert edited.read_text() == original


def test_a_module_without_a_source_is_removed(package: Path) -> None:
    """It is stale as well."""
    orphan = package / "sync" / "orphan.py"
    orphan.touch()
    completed = generate("--check", "--client", str(package))
    assert completed.returncode == 1
    assert "stale: orphan.py" in completed.stdout
    assert generate("--client", str(package)).returncode == 0
    assert not orphan.exists()


@pytest.mark.parametrize(
    "line",
    [
        "import asyncio\n\nLOCK = asyncio.Lock()\n",
        "def other() -> None:\n    '''Call it where it can be awaited.'''\n",
        "# For the event loop of asyncio.\n",
    ],
)
def test_remaining_asynchronous_code_is_an_error(package: Path, line: str) -> None:
    """Code, docstrings and comments alike; nothing is written then."""
    before = (package / "sync" / "calls.py").read_text()
    source = package / "aio" / "calls.py"
    source.write_text(source.read_text() + line)
    completed = generate("--client", str(package))
    assert completed.returncode == 1
    assert "sync/calls.py:" in completed.stderr
    assert "would still be asynchronous" in completed.stderr
    assert (package / "sync" / "calls.py").read_text() == before


def test_a_phrase_without_a_match_is_an_error(package: Path) -> None:
    """The tables hold no text that is out of date: here, of a module that is gone."""
    (package / "aio" / "media.py").unlink()
    completed = generate("--check", "--client", str(package))
    assert completed.returncode == 1
    assert "nothing in aio/ matches ' Files are read in a thread.'" in completed.stderr


def test_a_pattern_without_a_match_is_an_error(package: Path) -> None:
    """The same for code."""
    source = package / "aio" / "streams.py"
    source.write_text(source.read_text().replace("StopAsyncIteration", "StopIteration"))
    completed = generate("--check", "--client", str(package))
    assert completed.returncode == 1
    assert "nothing in aio/ matches" in completed.stderr
    assert "StopAsyncIteration" in completed.stderr


def test_a_result_that_is_no_python_is_an_error(package: Path) -> None:
    """Ruff's message says where."""
    source = package / "aio" / "usage.py"
    source.write_text(source.read_text() + "def broken(:\n")
    completed = generate("--check", "--client", str(package))
    assert completed.returncode == 1
    assert "sync/usage.py: ruff" in completed.stderr
