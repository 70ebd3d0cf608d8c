"""What a server asks its settings each time anew can be reloaded; what it reads once cannot."""

from typing import Any

from mediagate_server.config import Settings
from mediagate_server.config.setting_names import RELOADABLE
from mediagate_server.wiring.generations import engine_timeouts


class RecordingSettings:
    """Settings that note which of them were read."""

    def __init__(self) -> None:
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.read.add(name)
        return getattr(Settings(), name)


def test_create_timing_settings_need_a_restart() -> None:
    """So a reload must not seem to change it: each of its settings needs a restart."""
    settings = RecordingSettings()
    engine_timeouts(settings)  # type: ignore[arg-type]
    assert settings.read >= {"upstream_create_timeout", "absent_margin", "sweep_seconds"}
    assert not settings.read & RELOADABLE
