"""The settings in force while the gate runs, and how they change without a restart."""

import os
from collections.abc import Callable
from pathlib import Path

from mediagate_server.config.loading import load_settings
from mediagate_server.config.names import LIVE
from mediagate_server.config.problem import ConfigError
from mediagate_server.config.settings import Settings

Check = Callable[[Settings], object]
"""Raises ConfigError where settings cannot be used, though each of them alone is good."""


class Configuration:
    """Holds the settings. Whoever needs one asks `current` for it, each time anew.

    `path`: the file; None: the one that MEDIAGATE_CONFIG names.
    """

    def __init__(self, settings: Settings, path: Path | None = None) -> None:
        self.current = settings
        self._path = path
        self._checks: list[Check] = []

    def files(self) -> tuple[Path, ...]:
        """The files that a reload reads."""
        named = self._path or os.environ.get("MEDIAGATE_CONFIG", "")
        own = (Path(named),) if named else ()
        keys = (path for tenant in self.current.tenants for path in tenant.key_files)
        return (*own, *self.current.catalog_files, *keys)

    def check_with(self, check: Check) -> None:
        """Ask `check` before a reload is taken, and once now. Raises what it raises."""
        check(self.current)
        self._checks.append(check)

    def reload(self) -> tuple[str, ...]:
        """Read again, and take what may change while we run.

        Returns the settings that changed too, but need a restart. Raises ConfigError; then nothing
        has changed.
        """
        fresh = load_settings(self._path)
        if self.current.tenants and not fresh.tenants:
            # A file that is just being written looks like this, and would let everybody in.
            raise ConfigError(
                "there are no tenants any more: the gate serves without keys only after a restart"
            )
        changed = {
            name
            for name in Settings.model_fields
            if getattr(fresh, name) != getattr(self.current, name)
        }
        update = {name: getattr(fresh, name) for name in changed & LIVE}
        wanted = self.current.model_copy(update=update)
        for check in self._checks:
            check(wanted)
        self.current = wanted
        return tuple(sorted(changed - LIVE))
