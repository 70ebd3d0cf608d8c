"""A TypeScript program on the generated stubs, as one who installs the package writes it."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import Require
from tests.gate import Gate

from .outcome import BUILD_SECONDS, RUN_SECONDS, assert_served, run

HERE = Path(__file__).parent
GENERATED = HERE.parents[1] / "generated" / "typescript"


@pytest.fixture(scope="module")
def program(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program, with the stubs installed from the package that would be published."""
    npm = require("npm")
    folder = tmp_path_factory.mktemp("typescript")
    stubs, program = folder / "stubs", folder / "program"
    ignored = shutil.ignore_patterns("node_modules", "dist")
    shutil.copytree(GENERATED, stubs, ignore=ignored)
    shutil.copytree(HERE / "typescript", program, ignore=ignored)
    run([npm, "install", "--no-package-lock"], stubs, BUILD_SECONDS)
    packed = run([npm, "pack", "--silent"], stubs, BUILD_SECONDS).split()[-1]
    (stubs / packed).rename(stubs / "mediagate-client.tgz")
    run([npm, "install", "--no-package-lock"], program, BUILD_SECONDS)
    run([npm, "run", "build"], program, BUILD_SECONDS)
    return program / "dist" / "main.js"


@pytest.mark.timeout(3 * BUILD_SECONDS)
def test_typescript(program: Path, gate: Gate, require: Require, tmp_path: Path) -> None:
    """It streams a text, makes an image and understands a refusal, through Connect's gRPC."""
    assert_served(run([require("node"), str(program), gate.address], tmp_path, RUN_SECONDS))
