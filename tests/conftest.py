"""What every room's tests may ask for: tools that must be there, a server that runs, the seed."""

import logging
import os
import random
import shutil
from collections.abc import Callable, Iterator
from typing import NoReturn

import hypothesis
import pytest
import structlog

from tests.server_process import ServerProcess, running_server

Missing = Callable[[str], NoReturn]
"""Skips the test, naming what is missing, or fails it where everything is required."""

Require = Callable[[str], str]
"""Given a program's name, gives its path, or skips the test, naming what is missing."""

# Printed in the header; written back, so that the workers of a run on several processors have the
# same one. The tests of a commit are the same in every run: another seed, or the examples that
# hypothesis draws at random, are searched by `make properties`, not by whoever lands a change.
SEED = int(os.environ.get("MEDIAGATE_TEST_SEED") or 1)
os.environ["MEDIAGATE_TEST_SEED"] = str(SEED)
REQUIRE_ALL = os.environ.get("MEDIAGATE_REQUIRE_ALL") == "1"

# No deadline: these machines are shared, and a slow example is not a wrong one. What hypothesis
# finds it prints with `@reproduce_failure`.
hypothesis.settings.register_profile("fixed", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.register_profile("random", deadline=None, print_blob=True, max_examples=1_000)
hypothesis.settings.load_profile("fixed")


def pytest_report_header() -> str:
    return f"mediagate: MEDIAGATE_TEST_SEED={SEED} MEDIAGATE_REQUIRE_ALL={int(REQUIRE_ALL)}"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(SEED)


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    """Logging is configured for the whole process: what a test sets ends with it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def seed() -> int:
    """The run's seed, for what a test draws by itself."""
    return SEED


@pytest.fixture(scope="session")
def missing() -> Missing:
    """Gives up for want of something: `missing("PostgreSQL")`."""

    def give_up(what: str) -> NoReturn:
        if REQUIRE_ALL:
            pytest.fail(f"missing: {what} (MEDIAGATE_REQUIRE_ALL=1)")
        pytest.skip(f"missing: {what}")

    return give_up


@pytest.fixture(scope="session")
def require(missing: Missing) -> Require:
    """Asks for a program on the PATH: `require("ffprobe")` gives its path."""

    def path_of(program: str) -> str:
        return shutil.which(program) or missing(program)

    return path_of


@pytest.fixture(scope="session")
def server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all tests that want a real process, `mediagate serve` on the sandbox."""
    with running_server(tmp_path_factory.mktemp("gate")) as running:
        yield running


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of S3, played by moto, which keeps everything in this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything is required, a skipped test is a failed run, however it was skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not REQUIRE_ALL:
        return
    if reporter.stats.get("skipped") and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line("")
        reporter.write_line("FAILED: tests were skipped under MEDIAGATE_REQUIRE_ALL=1", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
