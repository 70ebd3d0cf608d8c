"""Environment beats file beats defaults; what is wrong is named by line or variable."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from mediagate_server.config import ConfigError, Settings, load_settings
from mediagate_server.config.setting_names import (
    FILE_ONLY,
    RELOADABLE,
    SECRET_SETTINGS,
    SECTIONS,
    UNIMPLEMENTED,
    environment_variable,
)

NAMES_OF_THE_DESIGN = (
    "GRPC_ADDRESS",
    "OPS_ADDRESS",
    "WEB_ADDRESS",
    "PUBLIC_URL",
    "UPSTREAM",
    "UPSTREAM_URL",
    "DATA_DIR",
    "DATABASE_URL",
    "REDIS_URL",
    "USE_FALLBACK",
    "ENABLE_COST_OPTIMIZATION",
    "DEFAULT_TEXT_MODEL",
    "DEFAULT_IMAGE_MODEL",
    "DEFAULT_VIDEO_MODEL",
    "DEFAULT_AUDIO_MODEL",
    "INSECURE_PUBLIC",
)


@pytest.fixture
def written(tmp_path: Path) -> Any:
    """Writes a configuration file."""

    def write(text: str) -> Path:
        path = tmp_path / "gate.toml"
        path.write_text(text)
        return path

    return write


def problems(path: Path | None = None, **environ: str) -> list[str]:
    """What is wrong, a line each."""
    with pytest.raises(ConfigError) as raised:
        load_settings(path, environ)
    return str(raised.value).splitlines()


def test_defaults_alone() -> None:
    """Defaults alone are a configuration."""
    assert load_settings(None, {}) == Settings()


def test_every_setting_has_a_key_and_a_variable() -> None:
    """Each setting can be set in one place of the file and by one variable."""
    in_file = [name for keys in SECTIONS.values() for name in keys.values()]
    assert sorted([*in_file, *FILE_ONLY]) == sorted(Settings.model_fields)
    variables = {environment_variable(name) for name in Settings.model_fields}
    assert {f"MEDIAGATE_{name}" for name in NAMES_OF_THE_DESIGN} <= variables
    assert "REPLICATE_API_TOKEN" in variables
    assert set(Settings.model_fields) >= RELOADABLE | SECRET_SETTINGS | UNIMPLEMENTED


def test_sections_and_keys_of_the_file(written: Any) -> None:
    """Sections and keys, with their own types."""
    path = written(
        """
        [server]
        grpc_address = "[::1]:1234"
        reflection = false
        [upstream]
        kind = "sandbox"
        exclusive = false
        creates_per_minute = 60
        [limits]
        requests_per_minute = 100
        [defaults]
        text_model = "claude"
        video_timeout = 60.5
        """
    )
    assert load_settings(path, {}) == Settings(
        grpc_address="[::1]:1234",
        reflection=False,
        upstream="sandbox",
        upstream_exclusive=False,
        creates_per_minute=60,
        requests_per_minute=100,
        default_text_model="claude",
        video_timeout=60.5,
    )


def test_environment_variables_override_the_file(written: Any) -> None:
    """A variable wins; an empty one is none; the file is the one that MEDIAGATE_CONFIG names."""
    path = written("[limits]\nrequests_per_minute = 1\nmax_in_flight = 2\n")
    settings = load_settings(
        None,
        {
            "MEDIAGATE_CONFIG": str(path),
            "MEDIAGATE_REQUESTS_PER_MINUTE": "7",
            "MEDIAGATE_MAX_IN_FLIGHT": "",
            "MEDIAGATE_INSECURE_PUBLIC": "1",
            "MEDIAGATE_USE_FALLBACK": "false",
            "MEDIAGATE_SERVICE_HOST": "10.0.0.1",
        },
    )
    assert (settings.requests_per_minute, settings.max_in_flight) == (7, 2)
    assert settings.insecure_public
    assert not settings.use_fallback


def test_a_variable_overrides_an_invalid_key(written: Any) -> None:
    """What is overridden need not be good."""
    path = written("[limits]\nrequests_per_minute = -1\n")
    settings = load_settings(path, {"MEDIAGATE_REQUESTS_PER_MINUTE": "7"})
    assert settings.requests_per_minute == 7


@pytest.mark.parametrize(
    ("text", "line", "name", "words"),
    [
        ("[server]\ngrpc_adress = 'x'\n", 2, "server.grpc_adress", "is not a setting"),
        ("\n\n[sever]\nx = 1\n", 3, "sever", "is not a section; there are [server]"),
        ("limits = 1\n", 1, "limits", "is not a section"),
        ("[[limits]]\nmax_in_flight = 1\n", 1, "limits", "is not a section"),
        ("# x\n[limits]\n\n# y\nmax_in_flight = -1\n", 5, "limits.max_in_flight", "greater than"),
        ("[limits]\nmax_in_flight = 1.5\n", 2, "limits.max_in_flight", "integer"),
        ("[server]\ngrpc_address = 'nowhere'\n", 2, "server.grpc_address", "HOST:PORT"),
        ("[server]\ndrain_seconds = nan\n", 2, "server.drain_seconds", "less than"),
        ("[server]\nlog_level = 'loud'\n", 2, "server.log_level", "'debug'"),
        ("[upstream]\nkind = 'somewhere'\n", 2, "upstream.kind", "'replicate'"),
        ("[upstream]\nurl = 'ftp://x'\n", 2, "upstream.url", "http"),
        ("[upstream]\ntoken = 'r8_x'\n", 2, "upstream.token", "does not belong into this file"),
        ("[upstream]\ntoken = 5\n", 2, "upstream.token", "does not belong into this file"),
        ("[upstream]\ntoken = 'env:NOT_SET'\n", 2, "upstream.token", "NOT_SET, which is not set"),
        ("[upstream]\ntoken = 'file:none'\n", 2, "upstream.token", "cannot be read"),
        ("[server]\ndatabase_url = 'x'\n", 2, "server.database_url", "does not belong"),
        (
            "[server]\nlog_level = '''\nloud\n'''\nreflection = true\n",
            2,
            "server.log_level",
            "'debug'",
        ),
        ("[server]\nreflection = true\nlog_level = [\n1,\n]\n", 3, "server.log_level", "'debug'"),
        ("server.ops_address = 'x'\n", 1, "server.ops_address", "HOST:PORT"),
        ("server = {ops_address = 'x'}\n", 1, "server.ops_address", "HOST:PORT"),
    ],
)
def test_an_invalid_key_is_named_with_its_line(
    written: Any, text: str, line: int, name: str, words: str
) -> None:
    """File, line, key, and what it must be."""
    path = written(text)
    (problem,) = problems(path)
    assert problem.startswith(f"{path}, line {line}: {name}: ")
    assert words in problem


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"[limits]\nmax_in_flight = \n", 2),
        (b"[limits\n", 1),
        (b"[limits]\r\nmax_in_flight = 1\r\nmax_in_flight = 2\r\n", 3),
        (b"[limits]\nx = [1,\n2\n", 3),
        (b"[limits]\nx = '''\n", 2),
        (b"[limits]\n\xff\n", 2),
    ],
)
def test_toml_syntax_errors_have_a_line(tmp_path: Path, data: bytes, line: int) -> None:
    """Syntax errors carry the line, too."""
    path = tmp_path / "gate.toml"
    path.write_bytes(data)
    (problem,) = problems(path)
    assert problem.startswith(f"{path}, line {line}: ")


def test_an_unreadable_file(tmp_path: Path) -> None:
    """It says which, and why."""
    (problem,) = problems(tmp_path / "none.toml")
    assert problem == f"{tmp_path / 'none.toml'}: cannot be read: No such file or directory"
    (problem,) = problems(None, MEDIAGATE_CONFIG=str(tmp_path))
    assert "cannot be read: Is a directory" in problem


def test_an_invalid_variable_is_named() -> None:
    """The variable itself, so that one knows where to look; never its value."""
    (problem,) = problems(None, MEDIAGATE_MAX_IN_FLIGHT="secretive")
    assert problem.startswith("environment: MEDIAGATE_MAX_IN_FLIGHT: ")
    assert "secretive" not in problem


def test_all_problems_are_reported_at_once(written: Any) -> None:
    """Unknown keys, bad values and bad variables together."""
    path = written("[limits]\nmax = 1\nmax_in_flight = -1\n[extra]\n")
    messages = problems(path, MEDIAGATE_UPSTREAM="x")
    assert len(messages) == 4
    assert [problem.split(": ")[0].removeprefix(f"{path}, ") for problem in messages] == [
        "line 2",
        "line 4",
        "environment",
        "line 3",
    ]


def test_conflicting_settings() -> None:
    """Rules between settings are told without a line."""
    (problem,) = problems(None, MEDIAGATE_UPSTREAM_CONNECT_TIMEOUT="10")
    assert problem == "upstream_connect_timeout must be shorter than create and read"


def test_secrets_by_reference(written: Any, tmp_path: Path) -> None:
    """`env:` and `file:`, the latter beside the configuration file; the variable beats both."""
    (tmp_path / "token").write_text("r8_from_file\n")
    path = written(
        "[upstream]\ntoken = 'file:token'\n"
        "[storage]\naccess_key_id = 'env:THE_ID'\nsecret_access_key = 'env:THE_KEY'\n"
    )
    settings = load_settings(path, {"THE_ID": "id", "THE_KEY": "word"})
    assert settings.replicate_api_token == SecretStr("r8_from_file")
    assert settings.storage_secret_access_key == SecretStr("word")
    environ = {"THE_ID": "x", "THE_KEY": "x", "REPLICATE_API_TOKEN": "r8_from_env"}
    settings = load_settings(path, environ)
    assert settings.replicate_api_token == SecretStr("r8_from_env")


@pytest.mark.parametrize(("name", "key"), [("database_url", "DATABASE"), ("redis_url", "REDIS")])
def test_unimplemented_settings_are_refused(written: Any, name: str, key: str) -> None:
    """By the variable or by the line of the file that sets it; an empty variable sets nothing."""
    variable = f"MEDIAGATE_{key}_URL"
    (problem,) = problems(None, **{variable: "kind://user:hush@host/0"})
    assert problem.startswith(f"environment: {variable}: is not built yet: this server keeps")
    assert "Leave it unset" in problem
    path = written(f"[server]\n{name} = 'env:OURS'\n")
    (problem,) = problems(path, OURS="kind://user:hush@host/0")
    assert problem.startswith(f"{path}, line 2: server.{name}: is not built yet")
    assert "hush" not in problem
    assert load_settings(None, {variable: ""}) == Settings()


def test_a_secret_that_points_to_an_empty_file(written: Any, tmp_path: Path) -> None:
    """Nothing is not a token."""
    (tmp_path / "token").write_text("\n")
    (problem,) = problems(written("[upstream]\ntoken = 'file:token'\n"))
    assert "which is empty" in problem


@pytest.mark.parametrize("token", ["r8_x\ny", "r8 x", "r8_ü", "r8_\x7f"])
def test_a_token_invalid_in_a_header(token: str) -> None:
    """It is refused, and not shown."""
    (problem,) = problems(None, REPLICATE_API_TOKEN=token)
    assert problem == "environment: REPLICATE_API_TOKEN: holds characters that no token has"


def test_secrets_have_no_representation() -> None:
    """Neither by the settings nor by the choice of upstream."""
    environ = {"REPLICATE_API_TOKEN": "r8_hush", "MEDIAGATE_WEBHOOK_SECRETS": "whsec_hush"}
    settings = load_settings(None, environ)
    text = f"{settings} {settings!r} {settings.model_dump()} {settings.upstream_choice()!r}"
    assert "hush" not in text


def test_a_misplaced_secret_is_not_shown(written: Any) -> None:
    """The error about it names the key alone."""
    messages = problems(written("[upstream]\ntoken = 'r8_hush'\nurl = 'http://u:hush@h/'\n"))
    assert len(messages) == 2
    assert "hush" not in str(messages)


@given(st.text(max_size=200))
def test_any_file_is_loaded_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever it holds: settings, or an error with words."""
    path = tmp_path_factory.getbasetemp() / "random.toml"
    path.write_text(text, encoding="utf-8")
    refusal = refused(path)
    assert refusal is None or str(path) in refusal


def refused(path: Path) -> str | None:
    """Why a file cannot be used; None: it can, and says nothing."""
    try:
        assert load_settings(path, {}) == Settings()
    except ConfigError as error:
        return str(error)
    return None


def test_several_secrets(written: Any, tmp_path: Path) -> None:
    """Each by a reference in the file; separated by commas in the environment, which wins."""
    (tmp_path / "one").write_text("whsec_b25l\n")
    path = written('[upstream]\nwebhook_secrets = ["file:one", "env:TWO"]')
    settings = load_settings(path, {"TWO": "whsec_dHdv"})
    assert [s.get_secret_value() for s in settings.webhook_secrets] == ["whsec_b25l", "whsec_dHdv"]
    assert "b25l" not in repr(settings)
    environ = {"TWO": "whsec_dHdv", "MEDIAGATE_WEBHOOK_SECRETS": "whsec_eHh4, env:TWO"}
    settings = load_settings(path, environ)
    assert [s.get_secret_value() for s in settings.webhook_secrets] == ["whsec_eHh4", "whsec_dHdv"]


def test_one_invalid_secret_of_several(written: Any) -> None:
    """Named by its line, and not shown."""
    path = written('[upstream]\nwebhook_secrets = ["whsec_c2VjcmV0", "env:NONE"]')
    first, second = problems(path)
    assert "line 2" in first
    assert "env:NAME" in first
    assert "NONE" in second
    (problem,) = problems(None, MEDIAGATE_WEBHOOK_SECRETS="c2VjcmV0LXRoYXQ")
    assert "whsec_" in problem
    assert "c2VjcmV0" not in first + problem
