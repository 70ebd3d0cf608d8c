"""A Go program on the generated stubs."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import Missing, Require
from tests.server_process import ServerProcess

from .program_result import BUILD_SECONDS, RUN_SECONDS, assert_served, fetch, run
from .readme_examples import example

HERE = Path(__file__).parent
GENERATED = HERE.parents[1] / "generated" / "go"
CONFIG = HERE.parents[1] / "protos" / "service_config.json"


@pytest.fixture(scope="module")
def programs(
    require: Require,
    missing: Missing,
    server_process: ServerProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of the compiled programs; their module says where the stubs lie beside it."""
    go = require("go")
    folder = tmp_path_factory.mktemp("go")
    shutil.copytree(GENERATED, folder / "stubs")
    program = folder / "program"
    shutil.copytree(HERE / "go", program)
    (program / "readme").mkdir()
    (program / "readme" / "main.go").write_text(example("go", server_process.address))
    fetch([go, "mod", "tidy"], program, missing)
    run([go, "build", "-o", str(folder), "./..."], program, BUILD_SECONDS)
    return folder


@pytest.mark.timeout(3 * BUILD_SECONDS)
def test_go(programs: Path, server_process: ServerProcess) -> None:
    """It streams a text, makes an image and understands a refusal, through grpc-go.

    Its channel takes the service config that the contract ships.
    """
    command = [str(programs / "polyglot"), server_process.address, str(CONFIG)]
    assert_served(run(command, programs, RUN_SECONDS))


@pytest.mark.timeout(3 * BUILD_SECONDS)
def test_the_example_of_the_readme(programs: Path) -> None:
    """It compiles and prints where the image is."""
    assert run([str(programs / "readme")], programs, RUN_SECONDS).startswith("http")
