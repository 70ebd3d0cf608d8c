"""A data folder that cannot be used: `mediagate serve` names it in one line and ends with 1."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server_process import MEDIAGATE, running_server

from .terminal_process import SECONDS, server_variables

# Each starts many processes, on a machine that may be busy.
pytestmark = pytest.mark.timeout(180)
DATABASE = "mediagate.sqlite3"
# One process for all: to import the server takes longer than to refuse a folder.
SERVE_EACH = """
import os, sys
from mediagate_cli.app import app
for folder in sys.argv[1:]:
    os.environ["MEDIAGATE_DATA_DIR"] = folder
    print(app(["serve"], standalone_mode=False))
"""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a server that has served and was stopped."""
    folder = tmp_path_factory.mktemp("stopped")
    with running_server(folder):
        pass
    return folder / "data"


def overwrite_database(folder: Path) -> None:
    (folder / DATABASE).write_bytes(b"no database at all" * 1000)


def overwrite_pages(folder: Path) -> None:
    file = folder / DATABASE
    size = file.stat().st_size
    with file.open("r+b") as database:
        database.seek(4096)
        database.write(b"\xa5" * (size - 4096))


def replace_key(folder: Path) -> None:
    (folder / "sealing.key").write_bytes(bytes(32))


def shorten_key(folder: Path) -> None:
    (folder / "sealing.key").write_bytes(b"short")


def make_newer(folder: Path) -> None:
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()


def replace_by_folder(name: str) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return replace


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


def fill_media(folder: Path) -> None:
    shutil.rmtree(folder / "media", ignore_errors=True)
    (folder / "media").write_text("a file")


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no-database": (overwrite_database, f"{DATABASE} is damaged, or is no database of SQLite"),
    "damaged": (overwrite_pages, f"{DATABASE} is damaged"),
    "other-key": (replace_key, "sealing.key is another key"),
    "short-key": (shorten_key, "sealing.key does not hold a key of 32 bytes"),
    "newer": (make_newer, f"{DATABASE} is of a newer version of Mediagate"),
    "folder": (replace_by_folder(DATABASE), f"{DATABASE} cannot be opened"),
    "lock": (replace_by_folder("lock"), "lock: Is a directory"),
    "file": (replace_by_file, "File exists"),
    "media": (fill_media, "media: File exists"),
}


def start(data: Path, prepare: Callable[[], None] | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*MEDIAGATE, "serve"],
        cwd=data.parent,
        env=server_variables(data),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,  # noqa: PLW1509 - no thread of ours holds a lock
    )


def refusal(process: "subprocess.Popen[str]") -> str:
    """The only line of a server that did not start."""
    out, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, out, said.count("\n")) == (1, "", 1), said
    assert said.startswith("mediagate cannot serve: ")
    return said


def test_a_damaged_folder_is_named(stopped: Path, tmp_path: Path) -> None:
    """Whatever is wrong with it; what is there stays as it is."""
    for name, (damage, _) in CASES.items():
        shutil.copytree(stopped, tmp_path / name)
        damage(tmp_path / name)
    folders = [str(tmp_path / name) for name in CASES]
    done = subprocess.run(
        [sys.executable, "-c", SERVE_EACH, *folders],
        env=server_variables(tmp_path),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert done.stdout.split() == ["1"] * len(CASES), done.stderr
    said = done.stderr.splitlines()
    assert len(said) == len(CASES), done.stderr
    for (name, (_, words)), line in zip(CASES.items(), said, strict=True):
        assert line.startswith("mediagate cannot serve: ")
        assert words in line
        assert f"{tmp_path / name}" in line
    assert (tmp_path / "no-database" / DATABASE).read_bytes().startswith(b"no database at all")


def test_a_folder_that_cannot_be_written_is_named(stopped: Path, tmp_path: Path) -> None:
    """Not there and not to be made, full, and of another user."""

    def full() -> None:
        # Python ignores the signal, so that a write says "File too large".
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    processes = [start(Path("/proc/none")), start(tmp_path / "full", full)]
    said = [refusal(process) for process in processes]
    assert "the data folder /proc/none cannot be used" in said[0]
    assert f"{tmp_path / 'full'}" in said[1]


def test_a_folder_in_use_is_named(tmp_path: Path) -> None:
    """With the process that has it."""
    with running_server(tmp_path) as server:
        said = refusal(start(tmp_path / "data"))
    assert f"another process ({server.process.pid}) uses the data folder" in said
    assert os.fspath(tmp_path / "data") in said
