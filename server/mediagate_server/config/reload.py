"""Configuration reload: the settings in force, hot reload, and a watch on their files."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from mediagate_server.config.file import ConfigError
from mediagate_server.config.loading import load_settings
from mediagate_server.config.setting_names import RELOADABLE
from mediagate_server.config.settings import Settings

CheckSettings = Callable[[Settings], object]
"""Check of settings together. Raises ConfigError where they cannot be used."""


class Configuration:
    """The settings in force. Readers use `current`, each time anew.

    `path`: the file; None: the one that MEDIAGATE_CONFIG names.
    """

    def __init__(self, settings: Settings, path: Path | None = None) -> None:
        self.current = settings
        self._path = path
        self._checks: list[CheckSettings] = []

    def files(self) -> tuple[Path, ...]:
        """The files that a reload reads."""
        named = self._path or os.environ.get("MEDIAGATE_CONFIG", "")
        own = (Path(named),) if named else ()
        keys = (path for tenant in self.current.tenants for path in tenant.key_files)
        return (*own, *self.current.catalog_files, *keys)

    def check_with(self, check: CheckSettings) -> None:
        """Register a check of settings before a reload, and run it now. Raises what it raises."""
        check(self.current)
        self._checks.append(check)

    def reload(self) -> tuple[str, ...]:
        """Reload the settings, and apply those that may change at runtime.

        Returns the changed settings that need a restart. Raises ConfigError; then nothing has
        changed.
        """
        fresh = load_settings(self._path)
        if self.current.tenants and not fresh.tenants:
            # A half-written file looks like this, and would allow everybody.
            raise ConfigError(
                "there are no tenants any more: the server serves without keys only after a restart"
            )
        changed = {
            name
            for name in Settings.model_fields
            if getattr(fresh, name) != getattr(self.current, name)
        }
        update = {name: getattr(fresh, name) for name in changed & RELOADABLE}
        updated = self.current.model_copy(update=update)
        for check in self._checks:
            check(updated)
        self.current = updated
        return tuple(sorted(changed - RELOADABLE))


_FileStates = tuple[tuple[Path, tuple[int, ...]], ...]


class FileWatch:
    """File change detection by stat. `files` is called each time: a reload may name others."""

    def __init__(self, files: Callable[[], Iterable[Path]]) -> None:
        self._files = files
        self._states = self._read_states()

    def changed(self) -> bool:
        """Whether any file has changed since the last call: written, replaced, removed or created.

        A change is reported once, whether or not reading the file succeeds.
        """
        previous, self._states = self._states, self._read_states()
        return previous != self._states

    def _read_states(self) -> _FileStates:
        return tuple((path, _file_state(path)) for path in self._files())


def _file_state(path: Path) -> tuple[int, ...]:
    """State of a file by which a change is detected without reading it; empty: it is missing."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev
