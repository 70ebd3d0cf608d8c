"""A TypeScript program on the generated stubs, as one who installs the package writes it."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import Missing, Require
from tests.server_process import ServerProcess

from .program_result import BUILD_SECONDS, RUN_SECONDS, assert_served, fetch, run
from .readme_examples import example

HERE = Path(__file__).parent
GENERATED = HERE.parents[1] / "generated" / "typescript"


@pytest.fixture(scope="module")
def programs(
    require: Require,
    missing: Missing,
    server_process: ServerProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of the compiled programs, with the stubs from the package to be published."""
    npm = require("npm")
    folder = tmp_path_factory.mktemp("typescript")
    stubs, program = folder / "stubs", folder / "program"
    ignored = shutil.ignore_patterns("node_modules", "dist")
    shutil.copytree(GENERATED, stubs, ignore=ignored)
    shutil.copytree(HERE / "typescript", program, ignore=ignored)
    install = [npm, "install", "--no-package-lock", "--fetch-retries=1"]
    fetch(install, stubs, missing)
    packed = run([npm, "pack", "--silent"], stubs, BUILD_SECONDS).split()[-1]
    (stubs / packed).rename(stubs / "mediagate-client.tgz")
    (program / "readme.ts").write_text(example("ts", server_process.address))
    fetch(install, program, missing)
    run([npm, "run", "build"], program, BUILD_SECONDS)
    return program / "dist"


@pytest.mark.timeout(3 * BUILD_SECONDS)
def test_typescript(programs: Path, server_process: ServerProcess, require: Require) -> None:
    """It streams a text, makes an image and understands a refusal, through Connect's gRPC."""
    assert_served(run([require("node"), "main.js", server_process.address], programs, RUN_SECONDS))


@pytest.mark.timeout(3 * BUILD_SECONDS)
def test_the_example_of_the_readme(programs: Path, require: Require) -> None:
    """It compiles under strict rules and prints a text."""
    assert len(run([require("node"), "readme.js"], programs, RUN_SECONDS)) > 20
