"""Runs the tests that failed last again, each alone and three times, to tell a fault from a race.

The whole suite keeps every core busy, and a test that assumes an order of events can fail there
by chance. Such a test is to be mended, but it is no reason to stop a change that it says nothing
about: it is named, and the exit status is 0. The status is 1 where a test fails again, where more
than three had failed, or where nothing says which failed.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FAILED_TESTS: Final = ROOT / ".pytest_cache/v/cache/lastfailed"
MAX_TESTS: Final = 3
RUNS: Final = 3


def passes_alone(test: str) -> bool:
    """Run one test, by its node id, in processes of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    return all(subprocess.run(command, check=False, cwd=ROOT).returncode == 0 for _ in range(RUNS))


def main() -> int:
    """Run them; return the exit status."""
    tests = list(json.loads(FAILED_TESTS.read_text())) if FAILED_TESTS.exists() else []
    if not 0 < len(tests) <= MAX_TESTS:
        print(f"{len(tests)} failed tests on record; run again are 1 to {MAX_TESTS}.")
        return 1
    failed = [test for test in tests if not passes_alone(test)]
    for test in tests:
        print("fails alone as well:" if test in failed else "to be mended, passes alone:", test)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
