"""Clients for Replicate work against the sandbox, unchanged: its own and others' for JavaScript, Go
and Python; of each, every method.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mediagate_sandbox.pytest_plugin import ReplicateSandbox
from tests.conftest import Missing, Require
from tests.sandbox_process import AT_ONCE, running_sandbox

from .program_result import BUILD_SECONDS, RUN_SECONDS, fetch, run

HERE = Path(__file__).parent / "replicate"
SCENARIOS = ["run", "stream", "predictions", "files", "webhooks", "models", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class TlsSandbox:
    """A sandbox that speaks https: without it, some clients wrap no files."""

    url: str
    ca_file: Path

    def run(self, command: Sequence[str], base_url: str, folder: Path) -> dict[str, str | None]:
        """Runs a program that calls every method; what went wrong, by method."""
        environment = {
            **os.environ,
            "SSL_CERT_FILE": str(self.ca_file),
            "NODE_EXTRA_CA_CERTS": str(self.ca_file),
            "REPLICATE_API_TOKEN": "r8_any",
            "REPLICATE_BASE_URL": base_url,
        }
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [json.loads(each) for each in done.stdout.splitlines()]
        return {each["method"]: each["error"] for each in lines}


@pytest.fixture(scope="module")
def tls_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsSandbox]:
    folder = tmp_path_factory.mktemp("sandbox")
    with running_sandbox(folder, "--tls", "--tls-ca-file", "ca.pem", *AT_ONCE) as sandbox:
        yield TlsSandbox(sandbox.url, folder / "ca.pem")


@pytest.fixture(scope="module")
def ai_sdk_program(
    require: Require, missing: Missing, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The program on Vercel's provider, with the npm package beside it."""
    npm, folder = require("npm"), tmp_path_factory.mktemp("ai-sdk")
    shutil.copytree(HERE / "ai-sdk", folder, dirs_exist_ok=True)
    fetch([npm, "install", "--no-package-lock", "--fetch-retries=1"], folder, missing)
    return folder / "methods.js"


def python_environment(folder: Path, missing: Missing, *packages: str) -> Path:
    """An interpreter with packages that ours must not be mixed with."""
    fetch([sys.executable, "-m", "venv", str(folder)], folder.parent, missing)
    python = folder / "bin" / "python"
    fetch([str(python), "-m", "pip", "install", "-q", *packages], folder, missing)
    return python


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


@pytest.mark.timeout(3 * BUILD_SECONDS)
def test_every_method_of_javascript(
    javascript_program: Path, tls_sandbox: TlsSandbox, require: Require
) -> None:
    """The npm package, version 1.4.0: files are streams, also those of a stream of events."""
    base_url = f"{tls_sandbox.url}/v1"
    program = javascript_program.parent / "methods.js"
    errors = tls_sandbox.run([require("node"), str(program), base_url], base_url, program.parent)
    assert (len(errors), any(errors.values())) == (34, False), errors


@pytest.mark.timeout(3 * BUILD_SECONDS)
def test_every_method_of_go(go_program: Path, tls_sandbox: TlsSandbox) -> None:
    """The Go module, version 0.26.0."""
    base_url = f"{tls_sandbox.url}/v1"
    command = [str(go_program), base_url, "methods"]
    errors = tls_sandbox.run(command, base_url, go_program.parent)
    assert (len(errors), any(errors.values())) == (42, False), errors


@pytest.mark.timeout(3 * BUILD_SECONDS)
def test_vercels_provider(ai_sdk_program: Path, tls_sandbox: TlsSandbox, require: Require) -> None:
    """@ai-sdk/replicate, version 3.0.46: images and videos, waited for, polled, failed."""
    base_url = f"{tls_sandbox.url}/v1"
    command = [require("node"), str(ai_sdk_program), base_url]
    errors = tls_sandbox.run(command, base_url, ai_sdk_program.parent)
    assert (len(errors), any(errors.values())) == (10, False), errors


@pytest.mark.timeout(3 * BUILD_SECONDS)
def test_every_method_of_the_beta(
    tls_sandbox: TlsSandbox, missing: Missing, tmp_path: Path
) -> None:
    """The Python package 2.0.0b4."""
    python = python_environment(tmp_path / "beta", missing, "replicate==2.0.0b4")
    command = [str(python), "-W", "ignore", str(HERE / "python" / "beta.py")]
    errors = tls_sandbox.run(command, f"{tls_sandbox.url}/v1", tmp_path)
    assert (len(errors), any(errors.values())) == (41, False), errors


@pytest.mark.faults_full
@pytest.mark.timeout(6 * BUILD_SECONDS)
def test_litellm_and_langchain(tls_sandbox: TlsSandbox, missing: Missing, tmp_path: Path) -> None:
    """LiteLLM's provider and LangChain's wrapper; long, for what they bring with them."""
    packages = ("litellm==1.110.2", "langchain-community==0.4.2", "replicate==1.0.7")
    python = python_environment(tmp_path / "wrappers", missing, *packages)
    command = [str(python), "-W", "ignore", str(HERE / "python" / "wrappers.py")]
    errors = tls_sandbox.run(command, tls_sandbox.url, tmp_path)
    assert (len(errors), any(errors.values())) == (12, False), errors
