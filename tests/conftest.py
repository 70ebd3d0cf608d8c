"""What every room's tests may ask for: tools that must be there, a gate that runs, the seed."""

import os
import random
import shutil
from collections.abc import Callable

import hypothesis
import pytest

Require = Callable[[str], str]
"""Given a program's name, gives its path, or skips the test naming what is missing."""

# One seed per run, printed in the header. To repeat a run: MEDIAGATE_TEST_SEED=<seed>.
SEED = int(os.environ.get("MEDIAGATE_TEST_SEED") or random.SystemRandom().randrange(2**32))
REQUIRE_ALL = os.environ.get("MEDIAGATE_REQUIRE_ALL") == "1"

# No deadline: these machines are shared, and a slow example is not a wrong one. What hypothesis
# finds it prints with `@reproduce_failure`.
hypothesis.settings.register_profile("mediagate", deadline=None, print_blob=True)
hypothesis.settings.load_profile("mediagate")


def pytest_report_header() -> str:
    return f"mediagate: MEDIAGATE_TEST_SEED={SEED} MEDIAGATE_REQUIRE_ALL={int(REQUIRE_ALL)}"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(SEED)


@pytest.fixture
def seed() -> int:
    """The run's seed, for what a test draws by itself."""
    return SEED


def missing(what: str) -> None:
    """Skips the test for want of `what`, or fails it where everything is required."""
    if REQUIRE_ALL:
        pytest.fail(f"missing: {what} (MEDIAGATE_REQUIRE_ALL=1)")
    pytest.skip(f"missing: {what}")


@pytest.fixture
def require() -> Require:
    """Asks for a program on the PATH: `require("ffprobe")` gives its path."""

    def path_of(program: str) -> str:
        found = shutil.which(program)
        if found is None:
            missing(program)
        return str(found)

    return path_of
