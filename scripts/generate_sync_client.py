"""Generate the blocking Python client from the asyncio client: `aio/*.py` -> `sync/*.py`.

    python scripts/generate_sync_client.py           write the modules in `sync/`
    python scripts/generate_sync_client.py --check   compare; exit 1 where they differ

Text substitution by the tables below; then ruff sorts the imports, drops the unused ones and
formats. What takes more than that is written by hand, once for each client and under the same
names, in `backends/asynchronous.py` and `backends/blocking.py`.
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
CLIENT: Final = ROOT / "clients" / "python" / "mediagate_client"
RUFF: Final = Path(sys.executable).parent / "ruff"
HEADER: Final = "# Generated from aio/{name} by `make generate`. Do not edit.\n"

PHRASES: Final = {
    ", on asyncio": ", blocking",
    "The client for asyncio: one": "The blocking client: one",
    "The client for asyncio.": "The client for programs without an event loop.",
    "for asyncio. Made anywhere, used in any event loop.": (
        "for blocking programs. Safe to use from several threads."
    ),
    "An asynchronous iterator over": "An iterator over",
    "Cancelling the task that\n    reads it, closing it before the end (also by leaving its "
    "`async with` block), or dropping the\n    last reference to it cancels the generation.": (
        "Closing it before the\n    end (also by leaving its `with` block, or by Ctrl-C while it "
        "waits), or dropping the last\n    reference to it cancels the generation."
    ),
    "Cancelling the task cancels the rpc.": "Ctrl-C cancels the rpc.",
    " Files are read in a thread.": "",
    " Runs in a thread; a task that is\n        cancelled stops it at its next chunk.": "",
}
"""Text of docstrings that is true of one client only."""

PATTERNS: Final = {
    r"\bgrpc\.aio\.UnaryStreamCall\[Request, Response\]": "grpc._CallIterator[Response]",
    r"\bgrpc\.aio\b": "grpc",
    r"\bmediagate_client\.aio\b": "mediagate_client.sync",
    r"\bimport asynchronous as backend\b": "import blocking as backend",
    r"\b(async|await) ": "",
    r"\bAwaitable\[([^][]+)\]": r"\1",
    r"\bAsync(?=[A-Z])": "",
    r"\bStopAsyncIteration\b": "StopIteration",
    r"\b__a(enter|exit|iter|next)__": r"__\1__",
    r"\baclose\b": "close",
}
"""Regular expressions of code; they are applied in this order, after the phrases."""

LEFTOVER: Final = re.compile(r"async|await|\baio\b|CancelledError", re.IGNORECASE)


class GenerationError(Exception):
    """The tables and the sources do not fit each other."""


def main() -> int:
    """Write or compare; return the process's exit status."""
    parser = argparse.ArgumentParser(description="Generate the blocking Python client.")
    parser.add_argument("--check", action="store_true", help="compare, change nothing")
    parser.add_argument("--client", type=Path, default=CLIENT, help="folder of the client package")
    arguments = parser.parse_args()
    target = arguments.client / "sync"
    try:
        modules = generate_modules(arguments.client / "aio")
    except GenerationError as error:
        print(f"sync client: {error}", file=sys.stderr)
        return 1
    if arguments.check:
        return compare_modules(modules, target)
    write_modules(modules, target)
    return 0


def generate_modules(sources: Path) -> dict[str, str]:
    """Return the text of each module of the blocking client by its file name.

    Raises GenerationError where a result is still asynchronous or no Python, and where an entry
    of the tables matches nothing: it would be out of date.
    """
    matches: Counter[str] = Counter()
    modules = {
        path.name: generate_module(path.name, path.read_text(), matches)
        for path in sorted(sources.glob("*.py"))
    }
    for entry in (*PHRASES, *PATTERNS):
        if not matches[entry]:
            raise GenerationError(f"nothing in aio/ matches {entry!r}: change or remove the entry")
    return modules


def generate_module(name: str, text: str, matches: Counter[str]) -> str:
    """Return one module of the blocking client; count the matches of each entry."""
    for phrase, replacement in PHRASES.items():
        matches[phrase] += text.count(phrase)
        text = text.replace(phrase, replacement)
    for pattern, replacement in PATTERNS.items():
        text, count = re.subn(pattern, replacement, text)
        matches[pattern] += count
    text = run_ruff(name, text, "check", "--fix-only", "--select=I001,F401,F811")
    text = run_ruff(name, text, "format")
    for number, line in enumerate(text.splitlines(), start=1):
        if LEFTOVER.search(line):
            raise GenerationError(
                f"sync/{name}:{number} would still be asynchronous: {line.strip()!r}; add an entry "
                "to the tables, or move it to backends/asynchronous.py and backends/blocking.py"
            )
    return HEADER.format(name=name) + text


def run_ruff(name: str, text: str, *command: str) -> str:
    """Return what ruff makes of the text, by the rules of its place in this repository."""
    stdin_filename = f"--stdin-filename={CLIENT / 'sync' / name}"
    completed = subprocess.run(
        [RUFF, *command, "--quiet", "--no-cache", stdin_filename, "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if completed.returncode != 0:
        raise GenerationError(f"sync/{name}: ruff {command[0]}: {completed.stderr.strip()}")
    return completed.stdout


def compare_modules(modules: dict[str, str], target: Path) -> int:
    """Print which committed modules differ; return the process's exit status."""
    committed = {path.name: path.read_text() for path in target.glob("*.py")}
    names = sorted(modules.keys() | committed.keys())
    stale = [name for name in names if modules.get(name) != committed.get(name)]
    for name in stale:
        print(f"sync client: stale: {name}")
    print(f"sync client: {'STALE, run `make generate`' if stale else 'fresh'}")
    return 1 if stale else 0


def write_modules(modules: dict[str, str], target: Path) -> None:
    """Write all modules; remove those that have no source any more."""
    target.mkdir(exist_ok=True)
    for path in target.glob("*.py"):
        if path.name not in modules:
            path.unlink()
    for name, text in modules.items():
        (target / name).write_text(text)
    print("sync client: written")


if __name__ == "__main__":
    sys.exit(main())
