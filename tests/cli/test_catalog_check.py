"""`mediagate catalog check`: the catalog held against a sandbox, as it is and as it may become."""

import json
from pathlib import Path

import pytest

from tests.sandbox_process import UNLIMITED, running_sandbox

from .conftest import Mediagate


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEDIAGATE_CONFIG", "MEDIAGATE_UPSTREAM_URL", "REPLICATE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEDIAGATE_UPSTREAM", "sandbox")


def test_nothing_breaks_with_the_sandbox(mediagate: Mediagate) -> None:
    """Exit 0, a line for each price that is assumed, and a count."""
    done = mediagate("catalog", "check", "musicgen", "flux-dev", "imagen-4")
    assert done.exit_code == 0, done.output
    assert "meta/musicgen" in done.stdout
    assert "assumed: A100 80GB" in done.stdout
    assert "3 models" in done.stderr
    assert "0 of which break something" in done.stderr


def test_breaking_changes_end_with_exit_code_one(
    mediagate: Mediagate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is gone, another that changed; JSON for programs."""
    with running_sandbox(tmp_path, *UNLIMITED) as sandbox:
        monkeypatch.setenv("MEDIAGATE_UPSTREAM_URL", sandbox.url)
        monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_test")
        sandbox.faults(
            {"do": "retire_model", "model": "black-forest-labs/flux-dev"},
            {
                "do": "change_schema",
                "model": "black-forest-labs/flux-schnell",
                "remove": ["go_fast"],
            },
        )
        done = mediagate("catalog", "check", "--json", "flux-dev", "flux-schnell", "sdxl")
    assert done.exit_code == 1, done.output
    broken = {each["model"]: each for each in json.loads(done.stdout) if each["breaks"]}
    assert broken["black-forest-labs/flux-dev"]["kind"] == "gone"
    assert "'go_fast'" in broken["black-forest-labs/flux-schnell"]["what"]
    assert "stability-ai/sdxl" not in broken


def test_checking_prices_needs_no_upstream(
    mediagate: Mediagate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without upstream; a name that is none is a mistake of the command line."""
    monkeypatch.setenv("MEDIAGATE_UPSTREAM_URL", "http://127.0.0.1:9")
    done = mediagate("catalog", "check", "--offline", "--json", "gpt-5.2")
    assert done.exit_code == 0
    [finding] = json.loads(done.stdout)
    assert (finding["kind"], finding["what"]) == (
        "price",
        "its price is assumed: the vendor's own list",
    )
    monkeypatch.setenv("MEDIAGATE_ALLOW_ASSUMED_PRICES", "false")
    done = mediagate("catalog", "check", "--offline", "--json", "gpt-5.2")
    [finding] = json.loads(done.stdout)
    assert (finding["kind"], finding["what"]) == ("price", "has no known price")
    # An upstream that is not there ends the command as it ends every other.
    assert mediagate("catalog", "check", "--json", "gpt-5.2").exit_code == 1
    assert mediagate("catalog", "check", "nobody").exit_code == 2
