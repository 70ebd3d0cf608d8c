"""The command as a whole: quick, whole, and clear about what it lacks."""

import importlib.metadata
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Mediagate

HELP = """
import json, sys
from typer.testing import CliRunner
from mediagate_cli.app import app
for arguments in ([], ["text"], ["serve"], ["config", "check"], ["demo"]):
    assert CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
WITHOUT_TYPER = """
import sys
sys.modules["typer"] = None
from mediagate_cli.__main__ import main
main()
"""
# Not pydantic: typer itself may load it.
HEAVY = {"aiohttp", "google", "grpc", "mediagate_client", "mediagate_sandbox", "mediagate_server"}


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if "MEDIAGATE" not in name}
    clean.pop("REPLICATE_API_TOKEN", None)
    return subprocess.run(
        [sys.executable, *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_loads_nothing_heavy() -> None:
    """Commands import what they need when they run, so that help is there at once."""
    done = run("-c", HELP)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) & HEAVY == set()


def test_a_missing_extra_is_named() -> None:
    """No traceback where typer is not installed."""
    done = run("-c", WITHOUT_TYPER)
    assert done.returncode == 1
    assert "mediagate[cli" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        *("audio", "check", "config", "demo", "image", "models", "run", "sandbox", "serve"),
        *("show", "text", "video"),
    ],
)
def test_every_command_explains_itself(mediagate: Mediagate, command: str) -> None:
    """Each is there and has its own help."""
    done = mediagate(command, "--help")
    assert done.exit_code == 0
    assert f"mediagate {command}" in done.stdout


def test_a_valid_configuration(mediagate: Mediagate, tmp_path: Path) -> None:
    """It says who would answer."""
    file = tmp_path / "gate.toml"
    file.write_text('[upstream]\nkind = "sandbox"\n')
    done = mediagate("config", "check", str(file))
    assert done.exit_code == 0, done.output
    assert "sandbox" in done.stdout


def test_a_broken_configuration_names_its_line(mediagate: Mediagate, tmp_path: Path) -> None:
    """Exit code 1, the file and the line."""
    file = tmp_path / "gate.toml"
    file.write_text('[upstream]\nkind = "sandbox"\nno_such_setting = 3\n')
    done = mediagate("config", "check", str(file))
    assert done.exit_code == 1
    assert "gate.toml, line 3" in done.stderr


def test_serving_from_replicate_needs_a_token(tmp_path: Path) -> None:
    """`serve` refuses and says what to do, rather than to fail at the first call."""
    done = run("-m", "mediagate_cli", "serve", MEDIAGATE_UPSTREAM="replicate", PWD=str(tmp_path))
    assert done.returncode == 1
    assert "REPLICATE_API_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_variable_is_warned_of(tmp_path: Path) -> None:
    """By `serve`, which refuses here for another reason, and by `config check`; not its value."""
    for command in (["serve"], ["config", "check"]):
        done = run(
            *("-m", "mediagate_cli", *command),
            MEDIAGATE_UPSTREAM="replicate",
            MEDIAGATE_OPS_ADRESS="not-to-be-shown",
            PWD=str(tmp_path),
        )
        assert "warning: the variable MEDIAGATE_OPS_ADRESS is not a setting" in done.stderr
        assert "MEDIAGATE_OPS_ADDRESS meant" in done.stderr
        assert "not-to-be-shown" not in done.stderr + done.stdout


@pytest.mark.parametrize("listener", ["GRPC", "OPS", "WEB"])
def test_a_port_in_use_is_named_with_its_setting(tmp_path: Path, listener: str) -> None:
    """One line: which address, and the variable that sets another."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        free = {f"MEDIAGATE_{door}_ADDRESS": "127.0.0.1:0" for door in ("GRPC", "OPS", "WEB")}
        variable = f"MEDIAGATE_{listener}_ADDRESS"
        settings = {**free, variable: address, "MEDIAGATE_DATA_DIR": str(tmp_path / "data")}
        done = run("-m", "mediagate_cli", "serve", **settings)
    assert done.returncode == 1
    why = f"{address}: address already in use; {variable} sets another"
    assert done.stderr.splitlines() == [f"mediagate cannot serve: {why}"]


def test_invalid_sandbox_settings(mediagate: Mediagate) -> None:
    """A wrong setting is a wrong command line."""
    assert mediagate("sandbox", "--time-scale", "-1").exit_code == 2


def test_the_version(mediagate: Mediagate) -> None:
    """The distribution's own."""
    done = mediagate("--version")
    assert (done.exit_code, done.stdout.strip()) == (0, importlib.metadata.version("mediagate"))


def test_exit_codes_are_documented(mediagate: Mediagate) -> None:
    """Whoever scripts with it finds them in the help."""
    words = " ".join(mediagate("--help").stdout.split())
    assert "1 refused" in words
    assert "130 interrupted" in words
