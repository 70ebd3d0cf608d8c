"""Crash marks: what stands when a process dies is blamed, once, and nothing else is."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from structlog.testing import capture_logs

from mediagate_server.runtime import crash_marks
from mediagate_server.runtime.crash_marks import CURRENT_MARK, CrashMark, CrashMarks

NOBODY = 65_534
DIES = """
import os, signal, sys
from pathlib import Path
from mediagate_server.runtime.crash_marks import CrashMarks

marks = CrashMarks(Path(sys.argv[1])).__enter__()
for name in sys.argv[2:]:
    with marks.mark(name.removeprefix("in:")):
        if name.startswith("in:"):
            os.kill(os.getpid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


def die(folder: Path, *names: str) -> None:
    """A process that handles these in turn, and is killed within one of them, or after all."""
    code = subprocess.run([sys.executable, "-c", DIES, str(folder), *names], check=False).returncode
    assert code < 0


def blames(folder: Path, *names: str) -> list[int]:
    with CrashMarks(folder) as marks:
        return [marks.crash_count(name) for name in names]


def test_a_crash_is_attributed_to_the_item_being_handled(tmp_path: Path) -> None:
    die(tmp_path, "a", "b", "in:c")
    assert blames(tmp_path, "a", "b", "c") == [0, 0, 1]


def test_a_crash_outside_handling_is_not_attributed(tmp_path: Path) -> None:
    die(tmp_path, "a", "b")
    assert blames(tmp_path, "a", "b") == [0, 0]


def test_crashes_are_counted_once_across_processes(tmp_path: Path) -> None:
    """However many processes read them."""
    die(tmp_path, "in:a")
    die(tmp_path, "in:a")
    for _ in range(3):
        assert blames(tmp_path, "a") == [2]
    die(tmp_path, "in:b")
    assert blames(tmp_path, "a", "b") == [2, 1]


def test_a_crash_while_counting_is_counted_once(tmp_path: Path) -> None:
    """The count is durable before the mark is gone."""
    die(tmp_path, "in:a")
    (mark,) = tmp_path.glob("*.mark")
    left = mark.read_bytes()
    assert blames(tmp_path, "a") == [1]
    mark.write_bytes(left)
    assert blames(tmp_path, "a") == [1]


def test_ended_items_are_removed(tmp_path: Path) -> None:
    die(tmp_path, "in:a")
    die(tmp_path, "in:b")
    with CrashMarks(tmp_path) as marks:
        marks.forget("a")
        marks.forget("never heard of")
    assert blames(tmp_path, "a", "b") == [0, 1]
    with CrashMarks(tmp_path) as marks:
        marks.retain(["c"])
    assert blames(tmp_path, "b") == [0]


def test_an_exception_clears_the_mark(tmp_path: Path) -> None:
    with CrashMarks(tmp_path) as marks:
        with pytest.raises(LookupError), marks.mark("a"):
            raise LookupError
        (mark,) = tmp_path.glob("*.mark")
        assert mark.read_bytes()[:1] == b"\0"


@pytest.mark.parametrize("left", [b"", b"\0\0", b"\xff" * 4096, b"a b\n", b"a" * 4096])
def test_a_malformed_mark_is_ignored(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "1-2.mark").write_bytes(left)
    assert blames(tmp_path, "a") == [0]
    assert list(tmp_path.glob("*.mark")) == []


@pytest.mark.parametrize(
    "left",
    [
        "",
        "{",
        "[]",
        "{}",
        "5",
        "\ud800",
        "[" * 100_000,
        '{"counted": 1, "blames": 2}',
        '{"counted": [[], {}, 1], "blames": []}',
        '{"counted": [], "blames": {"a": "1"}}',
        '{"counted": [], "blames": {"a": null}}',
        '{"counted": [], "blames": {"a": -7}}',
        '{"counted": [], "blames": {"a": true}}',
        '{"counted": [], "blames": {"a": 1.5}}',
        '{"counted": [], "blames": [["a", 1]]}',
        '{"counted": {"a": 1}, "blames": {"a": [1]}}',
    ],
)
def test_unreadable_counts_are_empty(tmp_path: Path, left: str) -> None:
    """A server that does not start for it would be worse."""
    (tmp_path / "blames.json").write_bytes(left.encode("utf-8", "surrogatepass"))
    die(tmp_path, "in:a")
    assert blames(tmp_path, "a") == [1]
    assert json.loads((tmp_path / "blames.json").read_text())["blames"] == {"a": 1}


def test_entries_that_are_not_files_are_ignored(tmp_path: Path) -> None:
    """Folders, links to nowhere and pipes by the names of marks, and one in the place of the list:
    the marks count as long as the process lives.
    """
    (tmp_path / "0.mark").mkdir()
    (tmp_path / "1.mark").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "2.mark")
    (tmp_path / "blames.json").mkdir()
    die(tmp_path, "in:a")
    assert blames(tmp_path, "a") == [1]
    assert blames(tmp_path, "a") == [1]


@contextmanager
def no_room() -> Iterator[None]:
    """No file of this process may grow beyond its first byte."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, usual[1]))
    try:
        with capture_logs():  # They would go to a file of pytest's.
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_is_tolerated(tmp_path: Path) -> None:
    """What would be written is known as long as the process lives, and is counted once after it."""
    die(tmp_path, "in:a")
    die(tmp_path, "in:b")
    with no_room(), CrashMarks(tmp_path) as marks:
        assert [marks.crash_count(name) for name in "ab"] == [1, 1]
        with marks.mark("a"):
            pass
        marks.forget("a")
        marks.retain(["b"])
        assert [marks.crash_count(name) for name in "ab"] == [0, 1]
    assert blames(tmp_path, "b") == [1]


def test_a_recovered_disk_counts_nothing_twice(tmp_path: Path) -> None:
    die(tmp_path, "in:a")
    die(tmp_path, "in:b")
    with ExitStack() as stack:
        with no_room():
            marks = stack.enter_context(CrashMarks(tmp_path))
        marks.forget("b")
    assert blames(tmp_path, "a", "b") == [1, 0]


@contextmanager
def not_root(folder: Path) -> Iterator[None]:
    """Root may write everywhere; whoever else runs the tests stays who they are."""
    if os.geteuid() != 0:
        yield
        return
    for path in (folder, *folder.iterdir()):
        os.chown(path, NOBODY, -1)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_unwritable_folder_is_tolerated() -> None:
    # Not below pytest's folder, which is its user's alone.
    with TemporaryDirectory() as name:
        folder = Path(name)
        die(folder, "in:a")
        folder.chmod(0o500)
        try:
            with not_root(folder):
                with pytest.raises(PermissionError):
                    (folder / "any").touch()
                assert blames(folder, "a") == [1]
                assert blames(folder, "a") == [1]
        finally:
            folder.chmod(0o700)


def test_marks_are_private_to_their_owner(tmp_path: Path) -> None:
    folder = tmp_path / "marks"
    folder.mkdir(mode=0o700)
    die(folder, "in:a")
    with CrashMarks(folder):
        names = {file.name for file in folder.iterdir() if not file.stat().st_mode & 0o077}
    assert len(names) == 2
    assert "blames.json" in names


def test_work_outside_generations_is_not_marked(tmp_path: Path) -> None:
    """Published models, say; and in a worker process nothing is."""
    with crash_marks.crash_marked():
        assert not crash_marks.skips_output()
    token = CURRENT_MARK.set(CrashMark(None, "a"))
    try:
        with crash_marks.crash_marked():
            assert not crash_marks.skips_output()
    finally:
        CURRENT_MARK.reset(token)
