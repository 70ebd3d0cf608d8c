"""A variable that nobody reads is told of by its name, and by the one that it may stand for."""

import re
from pathlib import Path

import pytest

from mediagate_server.config import load_settings
from mediagate_server.config.loading import find_unknown_variables
from mediagate_server.config.setting_names import FILE_ONLY, environment_variable
from mediagate_server.config.settings import Settings

TOP = Path(__file__).parents[2]
SECRET = "not-to-be-shown"


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [
        ("MEDIAGATE_GRPC_ADRESS", "MEDIAGATE_GRPC_ADDRESS"),
        ("MEDIAGATE_CREATE_PER_MINUTE", "MEDIAGATE_CREATES_PER_MINUTE"),
        ("MEDIAGATE_REPLICATE_API_TOKEN", "REPLICATE_API_TOKEN"),
        ("MEDIAGATE_APIKEY", "MEDIAGATE_API_KEY"),
        ("mediagate_data_dir", "MEDIAGATE_DATA_DIR"),
    ],
)
def test_a_misspelt_variable_gets_a_suggestion(mistyped: str, meant: str) -> None:
    """And never what it holds."""
    (line,) = find_unknown_variables({mistyped: SECRET, "PATH": SECRET})
    assert mistyped in line
    assert f"{meant} meant" in line
    assert SECRET not in line


def test_an_unknown_variable_is_reported() -> None:
    """Without a guess."""
    (line,) = find_unknown_variables({"MEDIAGATE_WEATHER": SECRET})
    assert "meant" not in line


def test_known_variables_are_not_reported(tmp_path: Path) -> None:
    """Settings, what the tools around the server read, and what the file refers to."""
    environ = {
        environment_variable(setting): "x" for setting in Settings.model_fields.keys() - FILE_ONLY
    }
    assert not find_unknown_variables(environ)
    assert not find_unknown_variables(
        {"MEDIAGATE_CONFIG": "x", "MEDIAGATE_TEST_SEED": "1", "OTHER": "x"}
    )
    path = tmp_path / "gate.toml"
    path.write_text('[tenants.a]\nkeys = ["env:MEDIAGATE_KEY_OF_A"]\n')
    warnings: list[str] = []
    environ = {"MEDIAGATE_KEY_OF_A": SECRET * 2, "MEDIAGATE_KEY_OF_B": SECRET}
    load_settings(path, environ, warn=warnings.append)
    assert len(warnings) == 1
    assert "MEDIAGATE_KEY_OF_B" in warnings[0]


def test_every_variable_that_our_code_reads_is_known() -> None:
    """Nobody is warned of what has an effect."""
    code = [
        file
        for folder in ("server", "clients/python", "scripts", "bench")
        for file in (TOP / folder).rglob("*.py")
    ]
    code += [TOP / "Makefile", TOP / ".ci" / "run"]
    words = r"(?:environ\S*|envvar=\[?|getenv\S*|VARIABLE: Final = )\(?\"(MEDIAGATE_[A-Z_]+)\""
    names = {name for file in code for name in re.findall(words, file.read_text())}
    assert {"MEDIAGATE_API_KEY", "MEDIAGATE_FAILPOINT", "MEDIAGATE_CONFIG"} <= names
    assert not find_unknown_variables(dict.fromkeys(names, "x"))


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
def test_unused_database_variables_are_reported(name: str) -> None:
    """By its usual name it may be another program's: no error, and not silent."""
    (line,) = find_unknown_variables({name: "kind://user:hush@host"})
    assert line == f"the variable {name} has no effect: what it asks for is not built yet"
