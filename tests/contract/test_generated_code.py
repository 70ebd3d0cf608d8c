"""What is written from the contract is what the contract says."""

import json
import subprocess
import sys
import tomllib

import pytest

from tests.conftest import Missing

from .conftest import ROOT


@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", ["python", "typescript", "go"])
def test_stubs_are_fresh(language: str, missing: Missing) -> None:
    """The committed stubs are what `make generate` writes, in every language."""
    command = [sys.executable, "scripts/generate.py", "--check", "--only", language]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "SKIPPED" in ran.stdout:
        missing(ran.stdout.strip())
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_versions_agree() -> None:
    """The packages of other languages carry the distribution's version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    npm = json.loads((ROOT / "generated/typescript/package.json").read_text())
    assert npm["version"] == project["version"]


def test_no_third_party_contract_is_copied() -> None:
    """protos/ holds nothing but this project's own package."""
    strangers = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "protos").rglob("*.proto")
        if path.parent != ROOT / "protos" / "mediagate" / "v1"
    ]
    assert strangers == []
