"""What is compared runs its own code, and says which interpreter, how built, and which settings."""

import platform
import shutil
import sys
from pathlib import Path

import pytest

from bench.__main__ import arguments, main
from bench.interpreter import build_of, describe, facts
from bench.server_processes import Cores
from bench.variants import (
    CHECKOUTS,
    ROOT,
    Variant,
    VariantError,
    commit_of,
    find_checkout,
    settings_of,
)
from tests.conftest import Missing, Require


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another checkout, of which only the way to the server is there."""
    package = tmp_path / "other/server/mediagate_server"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    return tmp_path / "other"


def test_the_interpreters_build_is_read() -> None:
    record = {"CONFIG_ARGS": "'--enable-shared' '--enable-optimizations' '--with-lto=full'"}
    assert build_of(record) == {
        "pgo": True,
        "lto": True,
        "jit": False,
        "debug": False,
        "free_threaded": False,
    }
    assert build_of({"PY_CORE_CFLAGS": "-O3 -fprofile-use -flto=auto"})["pgo"]
    assert not any(build_of({"CONFIG_ARGS": "'--enable-shared'"}).values())
    # How PGO would be asked for is in every record.
    assert not build_of({"PGO_PROF_USE_FLAG": "-fprofile-use"})["pgo"]
    assert not any(build_of({"CONFIG_ARGS": None, "Py_DEBUG": 0}).values())
    assert build_of({"Py_DEBUG": 1, "Py_GIL_DISABLED": 1})["free_threaded"]


def test_the_interpreter_is_described_in_one_line() -> None:
    description = describe(facts() | {"pgo": True, "lto": False, "debug": True})
    assert f"{platform.python_version()} (" in description
    assert "PGO yes, LTO not in its build record" in description
    assert description.endswith("debug")


def test_each_side_runs_its_own_code_with_its_own_settings(other: Path) -> None:
    this = Variant.of("this", None, None, None)
    against = Variant.of("against", str(other), None, "MEDIAGATE_A=1 MEDIAGATE_B=x=y")
    assert Path(this.facts()["server"]).is_relative_to(ROOT / "server")
    assert Path(against.facts()["server"]).is_relative_to(other)
    assert against.environment()["MEDIAGATE_B"] == "x=y"
    assert this.environment().keys() == {"PYTHONPATH"}
    assert list(other.rglob("__pycache__/*.pyc"))  # No start that is measured has to compile.
    document = against.document()
    assert document["settings"] == {"MEDIAGATE_A": "1", "MEDIAGATE_B": "x=y"}
    assert document["interpreter"]["version"] == platform.python_version()


def test_another_interpreter_runs_the_other_side(tmp_path: Path, other: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    side = Variant.of("against", str(other), str(python), None)
    assert side.command()[0] == str(python)


def test_an_interpreter_that_finds_other_code_is_refused(tmp_path: Path, other: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT / "server"} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with pytest.raises(VariantError, match="not the code of"):
        Variant.of("against", str(other), str(python), None)
    with pytest.raises(VariantError, match="does not run"):
        Variant.of("against", None, str(tmp_path / "none"), None)


def test_a_revision_is_checked_out_once(missing: Missing) -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        missing("a git repository")
    laid_out = find_checkout("HEAD")
    assert laid_out.parent == ROOT / CHECKOUTS
    assert commit_of(laid_out) == laid_out.name
    assert commit_of(ROOT).startswith(laid_out.name)
    assert (laid_out / "Makefile").exists()
    inode = laid_out.stat().st_ino
    assert find_checkout(laid_out.name[:12]) == laid_out
    assert laid_out.stat().st_ino == inode


def test_missing_checkouts_are_named(tmp_path: Path) -> None:
    with pytest.raises(VariantError, match="no checkout"):
        find_checkout(str(tmp_path))
    with pytest.raises(VariantError, match="neither a folder nor a revision"):
        find_checkout("no-such-thing")
    with pytest.raises(VariantError, match="NAME=value: B"):
        settings_of("A=1 B")


@pytest.mark.timeout(120)
def test_a_server_that_fails_to_start_is_shown_with_its_output(
    require: Require, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require("h2load")
    monkeypatch.setattr(Cores, "here", lambda: Cores(None, None))  # This process is not moved.
    words = ["--against-settings", "MEDIAGATE_LOG_LEVEL=loud", "--rows", "fresh"]
    assert main(words) == 1
    stderr = capsys.readouterr().err
    assert "does not serve" in stderr
    assert "MEDIAGATE_LOG_LEVEL" in stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--rows", "fresh", "--against", ".", "--rounds", "5", "--fail-if-worse"],
        ["--rows", "fresh"],
        ["--fail-if-worse"],
        ["--against", ".", "--rows", "no_such_row"],
        ["--against", ".", "--rounds", "0"],
        ["--against", ".", "--store", "0"],
    ],
)
def test_invalid_options_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(words)
    assert "error:" in capsys.readouterr().err


def test_options_of_a_quick_comparison() -> None:
    options = arguments(["--quick", "--against", ".", "--rows", "fresh", "store", "--rounds", "6"])
    assert options.compare
    assert (options.rows, options.extent.rounds) == (["fresh", "store"], 6)
    assert arguments(["--against-settings", "A=1"]).compare
    assert not arguments(["--quick"]).compare
    assert arguments(["--store", "7"]).extent.stores == (1_000, 7)
