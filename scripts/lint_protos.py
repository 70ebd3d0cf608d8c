"""Runs buf's linter and formatter over the contract, and compares it with what was promised.

    python scripts/lint_protos.py            check
    python scripts/lint_protos.py --freeze   promise what is there now

`protos/frozen.binpb` is the contract as callers may rely on it: what is in it may be added to, and
never be changed or taken away. It is written anew when what was added is promised as well.

buf wants the googleapis files that the contract imports beside it. They are copied, from the
installed googleapis-common-protos, into `.build/buf/` together with the contract, and buf runs
there: so no copy of them enters this tree, and nothing is fetched.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import google.api

ROOT = Path(__file__).resolve().parent.parent
WORKSPACE = ROOT / ".build" / "buf"
FROZEN = ROOT / "protos" / "frozen.binpb"
GOOGLEAPIS = Path(next(iter(google.api.__path__))).parent
BUF = Path(sys.executable).parent / "buf"


def main(arguments: Sequence[str]) -> int:
    """Lints and compares, or freezes what does not break the promise; returns the exit status."""
    lay_out()
    lint = run("lint", "protos")
    form = run("format", "--diff", "--exit-code", "protos")
    is_compatible = run("breaking", "protos", "--against", str(FROZEN), "--exclude-imports")
    status = lint or form or is_compatible
    if status == 0 and "--freeze" in arguments:
        return run("build", "protos", "--exclude-source-info", "-o", str(FROZEN))
    return status


def lay_out() -> None:
    """Makes a workspace of two modules: the contract, and what it imports."""
    shutil.rmtree(WORKSPACE, ignore_errors=True)
    shutil.copytree(ROOT / "protos", WORKSPACE / "protos")
    for package in ("api", "rpc"):
        for proto in (GOOGLEAPIS / package).glob("*.proto"):
            copy = WORKSPACE / "googleapis" / "google" / package / proto.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(proto, copy)
    rules = (ROOT / "buf.yaml").read_text()
    ours = "  - path: protos\n"
    if ours not in rules:
        message = "buf.yaml no longer names the module `protos`"
        raise SystemExit(message)
    (WORKSPACE / "buf.yaml").write_text(rules.replace(ours, f"{ours}  - path: googleapis\n"))


def run(*arguments: str) -> int:
    """Runs buf in the workspace, so that its messages name files as this tree does."""
    return subprocess.run([BUF, *arguments], cwd=WORKSPACE, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
