"""What the programs in other languages say they got, and what it must be."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import Missing

BUILD_SECONDS = 240
RUN_SECONDS = 60


def run(command: Sequence[str], folder: Path, seconds: float) -> str:
    """Runs a program and gives what it printed; fails with all it said where it fails."""
    ran = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert ran.returncode == 0, f"{' '.join(command)}:\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def fetch(command: Sequence[str], folder: Path, missing: Missing) -> None:
    """Runs what brings packages from a registry; where that cannot be, they are missing."""
    try:
        run(command, folder, BUILD_SECONDS)
    except (AssertionError, subprocess.TimeoutExpired) as failure:
        missing(f"packages from a registry: {failure}")


def assert_served(printed: str) -> None:
    """Holds that a text was streamed whole, an image made and paid, a bad request refused."""
    events: list[dict[str, Any]] = [json.loads(line) for line in printed.splitlines()]
    started, *deltas, completed, image, refused = events
    assert started["event"] == "started"
    assert started["sandbox"] is True
    assert len(started["requestId"]) == 36

    assert {delta["event"] for delta in deltas} == {"delta"}
    assert len(deltas) > 3, "a streamed text comes in pieces"
    sequences = [int(delta["sequence"]) for delta in deltas]
    assert sequences == sorted(set(sequences))
    text = "".join(delta["text"] for delta in deltas)
    assert sequences[-1] == len(text.encode())

    assert completed["event"] == "completed"
    assert int(completed["sequence"]) == sequences[-1]
    assert int(completed["costUsdNanos"]) > 0

    assert image["event"] == "image"
    assert image["state"].removeprefix("STATE_") == "SUCCEEDED"
    assert image["mediaType"].startswith("image/")
    assert image["uri"].startswith("http")
    assert int(image["costUsdNanos"]) > 0

    assert refused["code"] == "InvalidArgument"
    assert (refused["domain"], refused["reason"]) == ("mediagate", "INVALID_REQUEST")
