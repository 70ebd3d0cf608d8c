"""A Go program on the generated stubs."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import Require
from tests.gate import Gate

from .outcome import BUILD_SECONDS, RUN_SECONDS, assert_served, run

HERE = Path(__file__).parent
GENERATED = HERE.parents[1] / "generated" / "go"


@pytest.fixture(scope="module")
def program(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program; its module says where the stubs lie beside it."""
    go = require("go")
    folder = tmp_path_factory.mktemp("go")
    shutil.copytree(GENERATED, folder / "stubs")
    shutil.copytree(HERE / "go", folder / "program")
    run([go, "mod", "tidy"], folder / "program", BUILD_SECONDS)
    run([go, "build", "-o", "polyglot", "."], folder / "program", BUILD_SECONDS)
    return folder / "program" / "polyglot"


@pytest.mark.timeout(3 * BUILD_SECONDS)
def test_go(program: Path, gate: Gate, tmp_path: Path) -> None:
    """It streams a text, makes an image and understands a refusal, through grpc-go."""
    assert_served(run([str(program), gate.address], tmp_path, RUN_SECONDS))
