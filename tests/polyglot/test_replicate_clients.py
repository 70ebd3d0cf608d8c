"""Replicate's own clients for JavaScript and Go work against the sandbox, unchanged."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mediagate_sandbox.pytest_plugin import ReplicateSandbox
from tests.conftest import Missing, Require

from .program_result import BUILD_SECONDS, RUN_SECONDS, fetch, run

HERE = Path(__file__).parent / "replicate"
SCENARIOS = ["run", "stream", "predictions", "files", "webhooks", "models", "refused", "failed"]


@pytest.fixture(scope="module")
def go_program(
    require: Require, missing: Missing, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The compiled program on the Go module."""
    go, folder = require("go"), tmp_path_factory.mktemp("replicate-go")
    shutil.copytree(HERE / "go", folder, dirs_exist_ok=True)
    fetch([go, "mod", "tidy"], folder, missing)
    run([go, "build", "-o", "program", "."], folder, BUILD_SECONDS)
    return folder / "program"


@pytest.fixture(scope="module")
def javascript_program(
    require: Require, missing: Missing, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The program with the npm package beside it."""
    npm, folder = require("npm"), tmp_path_factory.mktemp("replicate-javascript")
    shutil.copytree(HERE / "javascript", folder, dirs_exist_ok=True)
    fetch([npm, "install", "--no-package-lock", "--fetch-retries=1"], folder, missing)
    return folder / "main.js"


def assert_worked(printed: str) -> dict[str, Any]:
    """Holds what both programs must have got; each part that they said, by name."""
    lines = [json.loads(each) for each in printed.splitlines()]
    assert [each["event"] for each in lines] == SCENARIOS
    said = {each["event"]: each for each in lines}
    assert said["run"]["text"].startswith("[sandbox meta/meta-llama-3-70b-instruct]")
    assert said["run"]["pictures"] == 2
    assert said["run"]["bytes"] > 1000
    assert said["stream"]["names"] == ["output"] * 30 + ["done"]
    assert said["stream"]["text"].startswith("[sandbox ")
    assert said["predictions"]["statuses"] == ["starting", "succeeded", "canceled"]
    assert said["predictions"]["same"]
    assert said["predictions"]["listed"]
    files = said["files"]
    assert (files["name"], files["type"], files["size"]) == ("boat.png", "image/png", 13)
    assert files["metadata"] in ({"order": 7}, {"order": "7"})
    assert files["listed"]
    assert files["pictures"] == 1
    assert said["webhooks"]["statuses"] == ["processing", "succeeded"]
    assert said["webhooks"]["valid"] == [True, False] * 2
    models = said["models"]
    assert models["name"] == models["found"] == "flux-schnell"
    assert models["version"]
    assert models["shelf"]
    assert models["deployment"]
    assert "cpu" in models["hardware"]
    assert models["account"] == "sandbox"
    assert said["refused"]["status"] == 422
    assert "prompt is required" in said["refused"]["message"]
    assert "out of memory" in said["failed"]["message"]
    return said


@pytest.mark.timeout(3 * BUILD_SECONDS)
def test_javascript(
    javascript_program: Path, replicate_sandbox: ReplicateSandbox, require: Require
) -> None:
    """The npm package, version 1.4.0."""
    command = [require("node"), str(javascript_program), replicate_sandbox.base_url]
    said = assert_worked(run(command, javascript_program.parent, RUN_SECONDS))
    assert said["files"]["deleted"] is True


@pytest.mark.timeout(3 * BUILD_SECONDS)
def test_go(go_program: Path, replicate_sandbox: ReplicateSandbox) -> None:
    """The Go module, version 0.26.0; its two ways to stream agree."""
    command = [str(go_program), replicate_sandbox.base_url]
    said = assert_worked(run(command, go_program.parent, RUN_SECONDS))
    assert said["stream"]["again"]
    assert said["files"]["deleted"]
