"""Runs the quick test rooms on every other Python on this machine; the whole suite runs on one.

Each gets an environment of its own (`.build/venv-3.13`), built by the Makefile. Found are those on
the PATH and those that pyenv and uv have installed, of which neither is on it by itself.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

OLDEST: Final = (3, 11)
_NEWEST_MINOR: Final = 30
ROOMS: Final = (
    "api",
    "config",
    "generations",
    "http",
    "ledger",
    "observability",
    "store",
    "upstream",
)
"""No test in these starts the server as a process of its own."""
FILES: Final = ("catalog/test_prices.py", "catalog/test_plans.py", "rpc/test_budgets.py")

_ASK: Final = (
    "import sys, venv, ensurepip;"
    "print(*sys.version_info[:2], sys.implementation.name, sys._base_executable)"
)


def main() -> int:
    """Run them; 0 where all passed, also where there is no other Python."""
    root = Path(__file__).parent.parent
    others = {
        version: path for version, path in find_interpreters() if version != sys.version_info[:2]
    }
    running = "{}.{}".format(*sys.version_info[:2])
    names = ", ".join(f"{major}.{minor}" for major, minor in others) or "none"
    print(f"Everything runs on Python {running}; the quick rooms on: {names}.", flush=True)
    tests = " ".join(f"tests/{folder}" for folder in (*ROOMS, *FILES))
    failed = []
    for (major, minor), path in others.items():
        print(f"Python {major}.{minor}: {path}", flush=True)
        begun = time.monotonic()
        created = subprocess.run(
            ["make", "test", f"PYTHON={path}", f"TESTS={tests}"],
            cwd=root,
            env={**os.environ, "MAKEFLAGS": "", "MFLAGS": ""},
            check=False,
        )
        print(f"Python {major}.{minor}: {time.monotonic() - begun:.0f} s", flush=True)
        if created.returncode:
            failed.append(f"{major}.{minor}")
    if failed:
        print(f"Failed on Python {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def find_interpreters() -> Iterator[tuple[tuple[int, int], Path]]:
    """Every Python that can build an environment, oldest first; one of each minor version."""
    best: dict[tuple[int, int], Path] = {}
    for candidate in _candidates():
        version = _version_of(candidate)
        if version is not None and version[0] >= OLDEST:
            best.setdefault(*version)
    yield from sorted(best.items())


def _candidates() -> Iterator[Path]:
    names = [f"python3.{minor}" for minor in range(OLDEST[1], _NEWEST_MINOR)]
    for name in (*names, "python3"):
        if path := shutil.which(name):
            yield Path(path)
    homes = (
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions",
        Path.home() / ".local/share/uv/python",
    )
    for home in homes:
        yield from sorted(home.glob("*/bin/python3"), reverse=True)


def _version_of(python: Path) -> tuple[tuple[int, int], Path] | None:
    """Its version and where it really is; None for what is none, as pyenv's shims mostly are."""
    answer = subprocess.run(
        [python, "-c", _ASK], capture_output=True, text=True, check=False, timeout=60
    )
    if answer.returncode:
        return None
    major, minor, implementation, path = answer.stdout.strip().split(" ", 3)
    if implementation != "cpython":
        return None
    return (int(major), int(minor)), Path(path)


if __name__ == "__main__":
    sys.exit(main())
