"""grpcurl knows nothing of the contract but what the server's reflection tells."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Require
from tests.server_process import ServerProcess

from .program_result import RUN_SECONDS, run
from .readme_examples import example

Ask = Callable[..., str]


@pytest.fixture
def ask(require: Require, server_process: ServerProcess, tmp_path: Path) -> Ask:
    grpcurl = require("grpcurl")

    def call(*arguments: str, data: str | None = None) -> str:
        body = [] if data is None else ["-d", data]
        command = [grpcurl, "-plaintext", *body, server_process.address, *arguments]
        return run(command, tmp_path, RUN_SECONDS)

    return call


def test_services_are_listed(ask: Ask) -> None:
    """Reflection names every service of the contract, and health."""
    services = set(ask("list").split())
    names = ("Admin", "Audio", "Generation", "Image", "Media", "Model", "Safety", "Text")
    assert {f"mediagate.v1.{name}Service" for name in names} <= services
    assert {"mediagate.v1.UsageService", "mediagate.v1.VideoService"} <= services
    assert "grpc.health.v1.Health" in services


def test_a_call_through_reflection(ask: Ask) -> None:
    """A read is answered to a caller who has no stubs."""
    answer = json.loads(ask("mediagate.v1.ModelService/ListModels", data='{"page_size": 1000}'))
    modalities = {model["modality"] for model in answer["models"]}
    assert {"MODALITY_TEXT", "MODALITY_IMAGE", "MODALITY_VIDEO", "MODALITY_AUDIO"} <= modalities


def test_the_example_of_the_readme(
    require: Require, server_process: ServerProcess, tmp_path: Path
) -> None:
    """Both lines work as they stand; the second streams a text."""
    require("grpcurl")
    printed = run(["sh", "-ec", example("sh", server_process.address)], tmp_path, RUN_SECONDS)
    assert "mediagate.v1.TextService" in printed
    assert '"completed"' in printed
