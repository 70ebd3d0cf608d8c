"""A reload takes what may change while we run, names what may not, and never takes half."""

from pathlib import Path

import pytest
import structlog

from mediagate_server import main
from mediagate_server.config import ConfigError, Configuration, Settings, load_settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEDIAGATE_CONFIG", "REPLICATE_API_TOKEN", "MEDIAGATE_MAX_IN_FLIGHT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with one limit."""
    path = tmp_path / "gate.toml"
    path.write_text("[limits]\nmax_in_flight = 3\n")
    return path


@pytest.fixture
def configuration(path: Path) -> Configuration:
    """What a server was started with."""
    return Configuration(load_settings(path), path)


def test_settings_that_a_reload_applies(path: Path, configuration: Configuration) -> None:
    """Limits, defaults, the log level."""
    path.write_text(
        "[limits]\nmax_in_flight = 4\n[defaults]\ntext_model = 'claude'\n"
        "[server]\nlog_level = 'debug'\n"
    )
    assert configuration.reload() == ()
    now = configuration.current
    assert (now.max_in_flight, now.default_text_model, now.log_level) == (4, "claude", "debug")


def test_settings_that_need_a_restart(path: Path, configuration: Configuration) -> None:
    """It is named, and stays as it was; the rest is taken."""
    path.write_text("[limits]\nmax_in_flight = 4\n[server]\ngrpc_address = '127.0.0.1:1'\n")
    assert configuration.reload() == ("grpc_address",)
    assert configuration.current.max_in_flight == 4
    assert configuration.current.grpc_address == Settings().grpc_address
    assert configuration.reload() == ("grpc_address",)


def test_a_broken_file_changes_nothing(path: Path, configuration: Configuration) -> None:
    """The last good one stays, whole; the next good one is taken."""
    before = configuration.current
    path.write_text("[limits]\nmax_in_flight = 4\nrequests_per_minute = -1\n")
    with pytest.raises(ConfigError, match="line 3"):
        configuration.reload()
    assert configuration.current is before
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        configuration.reload()
    assert configuration.current is before
    path.write_text("[limits]\nmax_in_flight = 5\n")
    configuration.reload()
    assert configuration.current.max_in_flight == 5


def test_a_registered_check_can_refuse_a_reload(path: Path, configuration: Configuration) -> None:
    """A room that knows better is asked first, and nothing changes where it says no."""

    def no_claude(settings: Settings) -> None:
        if settings.default_text_model == "claude":
            raise ConfigError("no claude here")

    configuration.check_with(no_claude)
    before = configuration.current
    path.write_text("[limits]\nmax_in_flight = 4\n[defaults]\ntext_model = 'claude'\n")
    with pytest.raises(ConfigError, match="no claude"):
        configuration.reload()
    assert configuration.current is before


def test_a_check_runs_when_registered(configuration: Configuration) -> None:
    """A check is made when it is given, too."""

    def never(settings: Settings) -> None:
        raise ConfigError("never")

    with pytest.raises(ConfigError, match="never"):
        configuration.check_with(never)


def test_an_internal_error_in_a_reload_keeps_the_server_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told of by type and place, and what was in force stays."""

    def broken(_: Configuration) -> None:
        raise ZeroDivisionError("of a secret")

    configuration = Configuration(Settings(data_dir=tmp_path))
    monkeypatch.setattr(Configuration, "reload", broken)
    with structlog.testing.capture_logs() as logs:
        main._reload(configuration)
    (log_entry,) = logs
    assert log_entry["event"] == "reload_crashed"
    assert log_entry["at"].startswith("test_reload.py:")
    assert "secret" not in str(log_entry)
    assert configuration.current.data_dir == tmp_path
