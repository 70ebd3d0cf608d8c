"""Runs the long fault tests in groups, and stamps each group with the commit that it ran on.

    python -m tests.faults.groups                  every group without a green stamp of this commit
    python -m tests.faults.groups --fresh           every group
    python -m tests.faults.groups crashes money     these groups

A stamp is `.build/faults/<group>.json`. It is green where everything passed, nothing was skipped,
and the tree was clean and at the same commit from the start to the end. So a run that was
interrupted is resumed by the same command: what is green is not run again.
"""

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[2]
TESTS = Path("tests")
STAMPS = Path(".build/faults")

GROUPS: Mapping[str, Sequence[str]] = {
    "crashes": ("faults/test_failpoints.py",),
    "kills": ("faults/test_process_kill.py", "faults/test_stream_resumption.py"),
    "power": ("faults/test_power_loss.py",),
    "answers": (
        "faults/test_lost_responses.py",
        "faults/test_archiving_deadline.py",
        "faults/test_large_outputs.py",
        "rpc/test_large_response_memory.py",
        "rpc/test_reconciliation_memory.py",
        "sandbox/test_cassette_runs.py",
    ),
    "replicas": ("faults/test_two_servers.py",),
    "money": (
        "faults/test_budget_race.py",
        "faults/test_cost_accounting.py",
        "faults/test_reconciliation.py",
    ),
    "simulation": ("faults/test_simulation.py",),
    "noise": ("faults/test_noisy_neighbour.py",),
    "packaging": ("packaging/test_wheel.py",),
    "clients": ("polyglot/test_replicate_clients.py",),
    "fuzz": ("faults/test_fuzz_upstream_responses.py", "faults/test_fuzz_requests.py"),
}
"""Which files under `tests` each group runs. A file may be named before it is there."""

SHARED_OUT = frozenset(GROUPS) - {"noise"}
"""Groups whose tests are shared out to WORKERS processes, for they wait most of their time. In the
others it is measured how long things take: nothing may run beside a test.
"""
WORKERS = 2

SECONDS_IN_ALL = 3_600
"""What all groups together may take on the machine that runs them for the record."""

_MARKED = re.compile(r"\bmark\.faults_full\b")


class Misplaced(Exception):
    """A long fault test that no run, or more than one, would come by."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """What the tree is: its commit, and whether anything differs from it."""

    commit: str
    dirty: bool

    @classmethod
    def of(cls, root: Path) -> Self:
        """As git sees it. Without git nothing is known, so nothing can be green."""
        try:
            commit = _git(root, "rev-parse", "HEAD").strip()
            return cls(commit, bool(_git(root, "status", "--porcelain").strip()))
        except (OSError, subprocess.CalledProcessError):
            return cls("unknown", dirty=True)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What became of one group. `seed` is the MEDIAGATE_TEST_SEED that repeats it."""

    group: str
    commit: str
    dirty: bool
    started: str
    seconds: float
    seed: int
    python: str
    status: int
    passed: int
    skipped: int
    failed: int
    failures: tuple[str, ...]

    @property
    def green(self) -> bool:
        """All of it ran on a commit, and passed."""
        clean = not self.dirty and not self.failed and not self.skipped
        return clean and self.status == 0 and self.passed > 0

    @classmethod
    def read(cls, root: Path, group: str) -> Self | None:
        """The group's last one. None where there is none that can be read."""
        try:
            document = json.loads((root / STAMPS / f"{group}.json").read_text(encoding="utf-8"))
            return cls(**document | {"failures": tuple(document["failures"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, root: Path) -> None:
        """Keep it as the group's last one."""
        path = root / STAMPS / f"{self.group}.json"
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def check_assignment(root: Path, groups: Mapping[str, Sequence[str]]) -> None:
    """Every file with long fault tests is in exactly one group. Raises Misplaced."""
    assigned = [name for names in groups.values() for name in names]
    wrong = [f"{name}: in more than one group" for name in assigned if assigned.count(name) > 1]
    for file in sorted((root / TESTS).rglob("*.py")):
        if not _MARKED.search(file.read_text(encoding="utf-8")):
            continue
        if file.relative_to(root / TESTS).as_posix() not in assigned:
            wrong.append(f"{file.relative_to(root)}: in no group of tests/faults/groups.py")
    if wrong:
        raise Misplaced("\n".join(dict.fromkeys(wrong)))


def run_group(root: Path, group: str, files: Sequence[str], seed: int) -> Stamp:
    """The group's tests in a pytest of their own; its stamp, written."""
    before, begun = Checkout.of(root), time.monotonic()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    (root / STAMPS).mkdir(parents=True, exist_ok=True)
    report = root / STAMPS / f"{group}.xml"
    report.unlink(missing_ok=True)
    # Whoever interrupts this run leaves no stamp of an earlier one behind.
    (root / STAMPS / f"{group}.json").unlink(missing_ok=True)
    workers = ("-n", str(WORKERS), "--dist", "load") if group in SHARED_OUT else ()
    status = _pytest(root, f"--junitxml={report}", *workers, *_there(root, files), seed=seed)
    stamp = Stamp(
        group=group,
        commit=before.commit,
        dirty=before.dirty or Checkout.of(root) != before,
        started=started,
        seconds=round(time.monotonic() - begun, 1),
        seed=seed,
        python=platform.python_version(),
        status=status,
        **_counted(report),
    )
    stamp.write(root)
    return stamp


def _pytest(root: Path, *arguments: str, seed: int) -> int:
    """Its exit status. On an interrupt it still puts down first what it has started."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-m", "faults_full", *arguments],
        cwd=root,
        env=os.environ | {"MEDIAGATE_TEST_SEED": str(seed)},
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


def _counted(report: Path) -> dict[str, Any]:
    """How many tests passed, were skipped and failed, from pytest's JUnit report."""
    if not report.exists():
        return {"passed": 0, "skipped": 0, "failed": 0, "failures": ()}
    skipped, failures, total = 0, [], 0
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest's own
        total += 1
        if case.find("skipped") is not None:
            skipped += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            failures.append(f"{case.get('classname')}::{case.get('name')}")
    failed = len(failures)
    return {
        "passed": total - skipped - failed,
        "skipped": skipped,
        "failed": failed,
        "failures": tuple(failures),
    }


def table(
    root: Path, groups: Mapping[str, Sequence[str]], checkout: Checkout, now: datetime
) -> Iterator[str]:
    """Each group with its last stamp: its commit, its age, what came of it."""
    yield f"{'group':<12}{'commit':<10}{'age':>8}{'seconds':>9}  result"
    seconds = 0.0
    for group in groups:
        stamp = Stamp.read(root, group)
        if stamp is None:
            yield f"{group:<12}{'-':<10}{'':>8}{'':>9}  {_absent(root, groups[group])}"
            continue
        seconds += stamp.seconds
        age = _age((now - datetime.fromisoformat(stamp.started)).total_seconds())
        line = f"{group:<12}{stamp.commit[:8]:<10}{age:>8}{stamp.seconds:>9.0f}"
        yield f"{line}  {_result(stamp, checkout)}"
    over = f", more than the {SECONDS_IN_ALL} they may take" if seconds > SECONDS_IN_ALL else ""
    yield f"{seconds:.0f} seconds together{over}"


def _absent(root: Path, files: Sequence[str]) -> str:
    return "never run" if _there(root, files) else "has no tests yet"


def _result(stamp: Stamp, checkout: Checkout) -> str:
    counts = f"{stamp.passed} passed"
    counts += f", {stamp.skipped} skipped" if stamp.skipped else ""
    counts += f", {stamp.failed} failed, seed {stamp.seed}" if stamp.failed else ""
    if not stamp.green:
        return f"NOT GREEN: {counts}{', tree not clean' if stamp.dirty else ''}"
    current = stamp.commit == checkout.commit
    return f"green: {counts}" if current else f"of another commit: {counts}"


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def main(
    arguments: Sequence[str],
    *,
    root: Path = ROOT,
    groups: Mapping[str, Sequence[str]] = GROUPS,
) -> int:
    """Run what is asked for, print the table; 1 where not all of that is green afterwards."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__.splitlines()[0])
    parser.add_argument("group", nargs="*", help=f"of {', '.join(groups)}; default: all not green")
    parser.add_argument("--fresh", action="store_true", help="run what is green as well")
    parser.add_argument("--status", action="store_true", help="run nothing, print the table")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.group if name not in groups]:
        parser.error(f"no such group: {', '.join(unknown)}; there are {', '.join(groups)}")
    try:
        check_assignment(root, groups)
    except Misplaced as misplaced:
        print(misplaced, file=sys.stderr)
        return 1
    checkout = Checkout.of(root)
    if checkout.dirty:
        print("The tree differs from its commit: no stamp of it will be green.", file=sys.stderr)
    there = [name for name in groups if _there(root, groups[name])]
    chosen = options.group or there
    seed = int(os.environ.get("MEDIAGATE_TEST_SEED") or random.SystemRandom().randrange(2**32))
    if options.status:
        print("\n".join(table(root, groups, checkout, datetime.now(UTC))))
        return 0
    for group in (name for name in chosen if name in there):
        named = options.fresh or group in options.group
        if named or not _is_green(root, group, checkout):
            print(f"{group}: seed {seed}", flush=True)
            run_group(root, group, groups[group], seed)
    print("\n".join(table(root, groups, checkout, datetime.now(UTC))))
    return 0 if all(_is_green(root, group, checkout) for group in chosen) else 1


def _is_green(root: Path, group: str, checkout: Checkout) -> bool:
    stamp = Stamp.read(root, group)
    return stamp is not None and stamp.green and stamp.commit == checkout.commit


def _there(root: Path, files: Sequence[str]) -> list[str]:
    return [str(TESTS / name) for name in files if (root / TESTS / name).exists()]


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
