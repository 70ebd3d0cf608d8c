"""The groups of `make faults`: what runs, what is stamped green, and that no test is forgotten."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from .groups import GROUPS, ROOT, STAMPS, Misplaced, check_assignment, main

MARK = "mark.faults" + "_full"  # Not in one word: this file has no long tests itself.
LONG = f"""import os, pathlib, pytest, signal

@pytest.{MARK}
def test_long():
    with open(pathlib.Path(__file__).parents[2] / ".build/runs", "a") as runs:
        runs.write("{{}}\\n")
    {{}}

def test_quick():
    raise AssertionError("no long test")
"""
CONFIG = '[tool.pytest.ini_options]\nmarkers = ["faults_full: long"]\n'
TWO = {
    "one": ["faults/test_one.py"],
    "two": ["faults/test_two.py", "faults/test_later.py"],
    "three": ["faults/test_none.py"],
}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean checkout with two groups of tests, all of which pass."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # Plugins take most of the time.
    (tmp_path / "tests/faults").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(CONFIG)
    (tmp_path / ".gitignore").write_text(".build/\n__pycache__/\n.pytest_cache/\n")
    for name in ("one", "two"):
        set_test(tmp_path, name, "pass")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def git(root: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True)


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "a state")


def set_test(root: Path, name: str, does: str) -> None:
    (root / f"tests/faults/test_{name}.py").write_text(LONG.format(name, does))


def run(
    root: Path, *arguments: str, groups: Mapping[str, Sequence[str]] = TWO
) -> tuple[int, list[str]]:
    """The exit status, and the groups whose tests were run by this."""
    (root / ".build").mkdir(exist_ok=True)
    runs = root / ".build/runs"
    runs.write_text("")
    return main(arguments, root=root, groups=groups), runs.read_text().split()


def stamp(root: Path, group: str) -> dict[str, Any]:
    stamp_json: dict[str, Any] = json.loads((root / STAMPS / f"{group}.json").read_text())
    return stamp_json


def test_every_long_test_is_in_a_group() -> None:
    check_assignment(ROOT, GROUPS)


def test_a_long_test_outside_all_groups_is_an_error(repository: Path) -> None:
    with pytest.raises(Misplaced, match="test_two"):
        check_assignment(repository, {"one": ["faults/test_one.py"]})
    with pytest.raises(Misplaced, match="more than one"):
        check_assignment(repository, TWO | {"again": ["faults/test_one.py"]})
    elsewhere = repository / "tests/test_elsewhere.py"
    elsewhere.write_text(LONG.format("elsewhere", "pass"))
    with pytest.raises(Misplaced, match="elsewhere"):
        check_assignment(repository, TWO)
    check_assignment(repository, TWO | {"four": ["test_elsewhere.py"]})
    assert run(repository) == (1, [])


def test_a_green_group_is_not_run_again_for_its_commit(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(repository, "one") == (0, ["one"])
    assert run(repository) == (0, ["two"])
    assert run(repository) == (0, [])
    report = stamp(repository, "two")
    assert (report["passed"], report["failed"], report["dirty"], report["status"]) == (
        1,
        0,
        False,
        0,
    )
    assert f"seed {report['seed']}" in capsys.readouterr().out
    assert run(repository, "one") == (0, ["one"])
    assert run(repository, "--fresh") == (0, ["one", "two"])
    commit(repository)
    assert run(repository, "--status") == (0, [])
    assert "of another commit" in capsys.readouterr().out
    assert run(repository) == (0, ["one", "two"])


def test_a_failed_group_is_run_again_and_the_others_continue(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_test(repository, "one", "raise ValueError")
    commit(repository)
    assert run(repository) == (1, ["one", "two"])
    report = stamp(repository, "one")
    assert report["failures"] == ["tests.faults.test_one::test_long"]
    assert f"1 failed, seed {report['seed']}" in capsys.readouterr().out
    assert run(repository) == (1, ["one"])


@pytest.mark.parametrize("does", ["pytest.skip('no')", "pathlib.Path('new').write_text('')"])
def test_a_group_that_skipped_or_changed_the_tree_is_not_green(repository: Path, does: str) -> None:
    set_test(repository, "one", does)
    commit(repository)
    assert run(repository, "one") == (1, ["one"])


def test_a_tree_that_differs_from_its_commit_is_never_green(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "new.txt").write_text("")
    assert run(repository) == (1, ["one", "two"])
    assert "tree not clean" in capsys.readouterr().out
    assert run(repository, "one") == (1, ["one"])
    assert stamp(repository, "one")["dirty"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Control-C interrupts, also where tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_group_is_run_again(repository: Path) -> None:
    """Control-C reaches the run and its tests alike."""
    assert run(repository) == (0, ["one", "two"])
    (repository / ".build/once").touch()
    set_test(repository, "one", "interrupt_once()")
    helper = """
def interrupt_once():
    if (once := pathlib.Path(__file__).parents[2] / ".build/once").exists():
        once.unlink()
        os.kill(os.getppid(), signal.SIGINT)
        raise KeyboardInterrupt
"""
    with (repository / "tests/faults/test_one.py").open("a") as file:
        file.write(helper)
    commit(repository)
    with pytest.raises(KeyboardInterrupt):
        run(repository)
    assert run(repository) == (0, ["one", "two"])


def test_a_group_that_does_not_exist_is_refused(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(repository, "four")
    assert "there are one, two, three" in capsys.readouterr().err
    assert run(repository, "three") == (1, [])
