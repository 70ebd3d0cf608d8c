"""The fixtures that ship with the package, as somebody else's tests use them."""

from __future__ import annotations

import asyncio
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from mediagate_sandbox.control_client import ControlError, SandboxControl
from mediagate_sandbox.pytest_plugin import ReplicateSandbox

from .conftest import Opener

THEIRS = """
import json
import os
import urllib.request

import pytest

SCHNELL = "black-forest-labs/flux-schnell"


@pytest.fixture(scope="session")
def replicate_sandbox_settings():
    return {"time_scale": 0, "token_time_scale": 0, "seed": 5}


def draw(sandbox):
    body = json.dumps({"version": SCHNELL, "input": {"prompt": "a boat"}}).encode()
    headers = {"Authorization": f"Bearer {sandbox.token}", "Prefer": "wait"}
    request = urllib.request.Request(sandbox.base_url + "/predictions", body, headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@pytest.mark.parametrize("time", [1, 2])
def test_each_test_has_a_bill_of_its_own(replicate_sandbox, time):
    made = draw(replicate_sandbox)
    bill = replicate_sandbox.bill()
    assert [each["id"] for each in bill["entries"]] == [made["id"]]
    assert bill["total_nanos"] == 3_000_000
    assert replicate_sandbox.state()["creates"]["total"] == 1
    assert replicate_sandbox.state()["seed"] == 5
    assert [each["id"] for each in replicate_sandbox.state()["predictions"]] == [made["id"]]


def test_faults_strike(replicate_sandbox):
    replicate_sandbox.faults({"do": "lose_answer", "on": "create"}, seed=3)
    with pytest.raises(OSError):
        draw(replicate_sandbox)
    assert [each["do"] for each in replicate_sandbox.fired()] == ["lose_answer"]
    assert len(replicate_sandbox.bill()["entries"]) == 1


def test_faults_end_with_the_test(replicate_sandbox):
    assert replicate_sandbox.fired() == []
    draw(replicate_sandbox)


def test_the_environment_is_set(replicate_sandbox_environ):
    assert os.environ["REPLICATE_BASE_URL"] == replicate_sandbox_environ.url
    assert os.environ["REPLICATE_API_TOKEN"] == replicate_sandbox_environ.token


def test_the_environment_is_set_back():
    assert "REPLICATE_BASE_URL" not in os.environ
"""
LIGHT = """
import sys


def test_nothing_heavy_is_loaded():
    heavy = {"aiohttp", "av", "orjson", "PIL", "mediagate_server", "mediagate_sandbox.server"}
    assert not heavy & set(sys.modules)
    assert "mediagate_sandbox.pytest_plugin" in sys.modules
"""


UNCONTROLLED = """
import pytest


@pytest.fixture(scope="session")
def replicate_sandbox_settings():
    return {"control": False}


def test_it_cannot_be_new(replicate_sandbox):
    pass
"""


def run_theirs(folder: Path, content: str, code: int = 0) -> str:
    """Run somebody's tests, without any plugin for asyncio; what pytest said."""
    (folder / "test_theirs.py").write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_the_plugin_is_installed_with_the_package() -> None:
    """Pytest finds it by its entry point."""
    entry_points = importlib.metadata.entry_points(group="pytest11", name="mediagate_sandbox")
    assert [each.value for each in entry_points] == ["mediagate_sandbox.pytest_plugin"]


def test_plain_tests_of_other_projects(tmp_path: Path) -> None:
    """Bill, state, faults and settings, each test as if the sandbox were new."""
    run_theirs(tmp_path, THEIRS)


def test_settings_without_control_are_named(tmp_path: Path) -> None:
    """Without it no test could find the sandbox as if it were new."""
    output = run_theirs(tmp_path, UNCONTROLLED, code=1)
    assert "replicate_sandbox_settings: control must not be false" in output


async def test_a_sandbox_without_control_says_so(open_sandbox: Opener) -> None:
    """Whoever asks it is told why there is no answer; a prediction that is not there is another."""
    async with open_sandbox(control=False) as caller:
        control = SandboxControl(caller.sandbox.url)
        with pytest.raises(ControlError, match="without control endpoints"):
            await asyncio.to_thread(control.reset)
    async with open_sandbox() as caller:
        control = SandboxControl(caller.sandbox.url)
        with pytest.raises(ControlError, match="could not be found"):
            await asyncio.to_thread(control.forget, "none")


def test_an_unused_plugin_imports_nothing(tmp_path: Path) -> None:
    """The plugin is there, and nothing that it would need."""
    run_theirs(tmp_path, LIGHT)


def test_a_wrong_plan_names_its_field(replicate_sandbox: ReplicateSandbox) -> None:
    """By the field."""
    with pytest.raises(ControlError, match=r"422.*faults\[0\]\.times"):
        replicate_sandbox.faults({"do": "refuse", "on": "create", "times": 0})


async def test_the_plugin_works_with_an_event_loop(replicate_sandbox: ReplicateSandbox) -> None:
    """It lives in a thread of its own, so neither blocks the other."""
    assert replicate_sandbox.bill()["predictions"] == 0
