"""Settings loader: file and environment to validated settings, or all errors at once.

Environment (`MEDIAGATE_*`, `REPLICATE_API_TOKEN`) beats the TOML file that `MEDIAGATE_CONFIG`
names, which beats the defaults. An empty variable counts as not set. Unknown MEDIAGATE_* variables
are warned of, with the setting that was probably meant.
"""

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from mediagate_server.config.file import (
    ConfigFile,
    ConfigProblem,
    config_error,
    validation_problems,
)
from mediagate_server.config.setting_names import (
    FILE_ONLY,
    LIST_SETTINGS,
    PATH_SETTINGS,
    SECRET_SETTINGS,
    SECTIONS,
    UNIMPLEMENTED,
    environment_variable,
)
from mediagate_server.config.settings import Settings
from mediagate_server.config.tenants import TENANTS_SECTION, TenantTableReader

_PREFIX: Final = "MEDIAGATE_"
_OTHER_VARIABLES: Final = frozenset(
    {
        "MEDIAGATE_CONFIG",
        "MEDIAGATE_API_KEY",
        "MEDIAGATE_TARGET",
        "MEDIAGATE_FAILPOINT",
        "MEDIAGATE_REQUIRE_ALL",
    }
)
"""Variables of other parts of this project: the clients, the command line, the tests."""
_WITHOUT_PREFIX: Final = frozenset(name.upper() for name in UNIMPLEMENTED)
"""Variables that other programs read by these names: a warning, no error."""
_TEST_PREFIX: Final = "MEDIAGATE_TEST_"
_MIN_SIMILARITY: Final = 0.75
_REFERENCES: Final = ("env:", "file:")


def load_settings(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    warn: Callable[[str], None] | None = None,
) -> Settings:
    """Load the settings from the file (`path`, else MEDIAGATE_CONFIG) and the environment.

    `warn` gets a line for each variable without effect. Raises ConfigError with all errors, one a
    line.
    """
    environ = os.environ if environ is None else environ
    if path is None and (named := environ.get("MEDIAGATE_CONFIG", "")):
        path = Path(named)
    loader = _SettingsLoader(environ)
    file = None if path is None else ConfigFile.read(path)
    if file is not None:
        loader.take_file(file)
    loader.take_environment()
    if warn is not None:
        for line in find_unknown_variables(environ, file.document if file else None):
            warn(line)
    return loader.settings()


class _SettingsLoader:
    """Collector of values by setting, and of where each was set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._file: ConfigFile | None = None
        self._values: dict[str, Any] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self._problems: list[ConfigProblem] = []

    def take_file(self, file: ConfigFile) -> None:
        """Collect every key of every section; an unknown one is an error."""
        self._file = file
        for section, content in file.document.items():
            if section == TENANTS_SECTION:
                resolve = partial(self._resolve_reference, folder=file.path.parent)
                tables = TenantTableReader(file, resolve)
                self._values["tenants"] = tables.read()
                self._problems += tables.problems
                continue
            settings_by_key = SECTIONS.get(section)
            if settings_by_key is None or not isinstance(content, dict):
                section_names = ", ".join(
                    f"[{name}]" for name in (*SECTIONS, f"{TENANTS_SECTION}.NAME")
                )
                message = f"is not a section; there are {section_names}"
                self._problems.append(ConfigProblem(file.location(section), section, message))
                continue
            for key, value in content.items():
                if key in settings_by_key:
                    self._keys[settings_by_key[key]] = (section, key)
                    self._set_value(settings_by_key[key], value)
                else:
                    message = f"is not a setting; there are {', '.join(settings_by_key)}"
                    name = f"{section}.{key}"
                    self._problems.append(ConfigProblem(file.location(section, key), name, message))

    def take_environment(self) -> None:
        """Collect every setting's own variable."""
        for setting in Settings.model_fields.keys() - FILE_ONLY:
            value = self._environ.get(environment_variable(setting), "")
            if value:
                self._keys.pop(setting, None)
                self._set_value(setting, value)

    def settings(self) -> Settings:
        """Validate and return the settings. Raises ConfigError."""
        settings = None
        try:
            settings = Settings(**self._values)
        except ValidationError as error:
            for path, _, message in validation_problems(error):
                self._problems.append(self._problem(path[0] if path else "", message))
        if settings is None or self._problems:
            raise config_error(self._problems)
        return settings

    def _set_value(self, setting: str, value: Any) -> None:
        if setting in LIST_SETTINGS:
            items = value if isinstance(value, list) else str(value).split(",")
            values = [self._convert(setting, str(item).strip()) for item in items]
            value = None if None in values else values
        else:
            value = self._convert(setting, value)
        if value is None:
            self._values.pop(setting, None)
        else:
            self._values[setting] = value

    def _convert(self, setting: str, value: Any) -> Any:
        """A secret for its reference, a path below its base; other values as they are."""
        if setting in SECRET_SETTINGS:
            return self._resolve_secret(setting, value)
        return self._base_folder(setting) / value if setting in PATH_SETTINGS else value

    def _resolve_secret(self, setting: str, value: Any) -> str | None:
        """Resolve a secret's reference; the secret itself may only be in the environment."""
        if setting not in self._keys and not str(value).startswith(_REFERENCES):
            return str(value)
        secret, _, problem = self._resolve_reference(str(value), self._base_folder(setting))
        if secret is None:
            self._problems.append(self._problem(setting, problem))
        return secret

    def _resolve_reference(
        self, reference: str, folder: Path
    ) -> tuple[str | None, Path | None, str]:
        """Resolve a reference: see tenants.Resolve. A relative path is below `folder`."""
        kind, _, target = reference.partition(":")
        if kind == "env":
            secret = self._environ.get(target) or None
            return secret, None, f"refers to the variable {target}, which is not set"
        if kind == "file":
            secret, problem = _read_secret_file(folder / target)
            return secret, folder / target, problem
        problem = 'a secret does not belong into this file; write "env:NAME" or "file:PATH"'
        return None, None, problem

    def _base_folder(self, setting: str) -> Path:
        """Base of a relative path: the file's own folder, or the working directory."""
        if self._file is not None and setting in self._keys:
            return self._file.path.parent
        return Path()

    def _problem(self, setting: str, message: str) -> ConfigProblem:
        if self._file is not None and setting in self._keys:
            keys = self._keys[setting]
            return ConfigProblem(self._file.location(*keys), ".".join(keys), message)
        if setting not in Settings.model_fields:
            return ConfigProblem("", setting, message)
        return ConfigProblem("environment", environment_variable(setting), message)


def _read_secret_file(path: Path) -> tuple[str | None, str]:
    """A secret in a file of its own, or why it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        return None, f"refers to the file {path}, which cannot be read: {reason}"
    return text or None, f"refers to the file {path}, which is empty"


def find_unknown_variables(
    environ: Mapping[str, str], document: Mapping[str, Any] | None = None
) -> list[str]:
    """A warning for each unknown variable, with the setting that was probably meant.

    `document` is the configuration file: variables that it references as `env:NAME` are known.
    Values are never printed.
    """
    settings = {
        environment_variable(setting) for setting in Settings.model_fields.keys() - FILE_ONLY
    }
    settings_and_others = settings | _OTHER_VARIABLES
    read = settings_and_others | set(_referenced_variables(document or {}))
    return [
        _warning(name, settings_and_others)
        for name in sorted(environ)
        if (name.upper().startswith(_PREFIX) or name in _WITHOUT_PREFIX)
        and name not in read
        and not name.startswith(_TEST_PREFIX)
    ]


def _warning(name: str, names: set[str]) -> str:
    if name in _WITHOUT_PREFIX:
        return f"the variable {name} has no effect: what it asks for is not built yet"
    close_matches = difflib.get_close_matches(name.upper(), names, n=1, cutoff=_MIN_SIMILARITY)
    suggestion = f"; is {close_matches[0]} meant?" if close_matches else ""
    return f"the variable {name} is not a setting and has no effect{suggestion}"


def _referenced_variables(value: Any) -> Iterator[str]:
    """Names of all variables that the file references."""
    if isinstance(value, str) and value.startswith("env:"):
        yield value.removeprefix("env:")
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _referenced_variables(each)
    elif isinstance(value, list):
        for each in value:
            yield from _referenced_variables(each)
