"""Variants of a comparison: a checkout, the interpreter that runs it, and its settings."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Self

from bench import interpreter

ROOT = Path(__file__).resolve().parent.parent
CHECKOUTS = Path(".build/bench/checkouts")
_SOURCES = ("server", "clients/python", "generated/python")
_NEEDED = ("HOME", "LANG", "PATH", "TMPDIR")


class VariantError(Exception):
    """What is to be compared is not there, or would not run its own code."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One server of a comparison. Both get the same load from the same upstream.

    It is run from its sources by PYTHONPATH, in the environment that `python` belongs to; unless
    told otherwise that is this environment, so that nothing but the code differs.
    """

    name: str
    root: Path = ROOT
    python: Path = Path(sys.executable)
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, where: str | None, python: str | None, settings: str | None) -> Self:
        """From the words of a command line. Raises VariantError."""
        variant = cls(
            name,
            find_checkout(where) if where else ROOT,
            Path(python or sys.executable).absolute(),
            settings_of(settings or ""),
        )
        server = Path(variant.facts()["server"] or "")
        if not server.is_relative_to(variant.root / "server"):
            raise VariantError(
                f"{variant.python} would run {server}, not the code of {variant.root}"
            )
        variant.compile()
        return variant

    def compile(self) -> None:
        """Once before anything is measured: a first start would pay for it."""
        folders = [str(self.root / source) for source in _SOURCES]
        # Where nothing can be written every start compiles, which is how it is started then.
        subprocess.run([str(self.python), "-m", "compileall", "-q", *folders], check=False)

    def command(self) -> list[str]:
        """`mediagate serve`, as a module: a script would name the environment that it is in."""
        return [str(self.python), "-P", "-m", "mediagate_cli", "serve"]

    def environment(self) -> dict[str, str]:
        """What makes its processes run its code with its settings."""
        path = os.pathsep.join(str(self.root / source) for source in _SOURCES)
        return {"PYTHONPATH": path, **self.settings}

    def facts(self) -> dict[str, Any]:
        """Its interpreter and the code that this finds. Raises VariantError."""
        output = _said(
            [str(self.python), "-P", str(ROOT / "bench/interpreter.py")], self.environment()
        )
        facts: dict[str, Any] = json.loads(output)
        return facts

    def document(self) -> dict[str, Any]:
        """All that can be said of it, for the JSON of a run."""
        return {
            "name": self.name,
            "root": str(self.root),
            "commit": commit_of(self.root),
            "settings": dict(self.settings),
            "interpreter": self.facts(),
        }


def settings_of(words: str) -> dict[str, str]:
    """`A=1 B=2` as environment variables. Raises VariantError."""
    pairs = [word.partition("=") for word in words.split()]
    if wrong := [name for name, equals, _ in pairs if not name or not equals]:
        raise VariantError(f"settings are written NAME=value: {', '.join(wrong)}")
    return {name: value for name, _, value in pairs}


def find_checkout(where: str) -> Path:
    """A folder as it is, or a git revision of this repository, laid out under .build/."""
    folder = Path(where)
    if folder.is_dir():
        if not (folder / "server/mediagate_server").is_dir():
            raise VariantError(f"{folder} is no checkout of Mediagate")
        return folder.resolve()
    try:
        commit = _git(ROOT, "rev-parse", "--verify", "--quiet", f"{where}^{{commit}}")
    except (OSError, subprocess.CalledProcessError):
        raise VariantError(f"{where} is neither a folder nor a revision of {ROOT}") from None
    laid_out = ROOT / CHECKOUTS / commit.decode().strip()
    if not laid_out.exists():
        archive = _git(ROOT, "archive", "--format=tar", laid_out.name)
        half = laid_out.with_suffix(".part")
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(half, filter="data")
        half.rename(laid_out)
    return laid_out


def commit_of(root: Path) -> str:
    """The commit of a checkout, and whether anything differs from it."""
    if root.parent == ROOT / CHECKOUTS:
        return root.name
    try:
        commit = _git(root, "rev-parse", "HEAD").decode().strip()
        return f"{commit} and changes" if _git(root, "status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def describe(variant: Mapping[str, Any]) -> str:
    """A side's document in one line, for people."""
    settings = "".join(f" {name}={value}" for name, value in variant["settings"].items())
    return f"{variant['root']} at {variant['commit'][:8]}{variant['commit'][40:]}{settings}; " + (
        interpreter.describe(variant["interpreter"])
    )


def _said(command: list[str], environment: Mapping[str, str]) -> str:
    inherited = {name: os.environ[name] for name in _NEEDED if name in os.environ}
    try:
        return subprocess.run(
            command, env=inherited | dict(environment), check=True, capture_output=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise VariantError(f"{command[0]} does not run: {error}") from error


def _git(root: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout
