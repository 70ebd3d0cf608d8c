"""What can be set, where it comes from, and what is wrong with it, by line.

Environment (`MEDIAGATE_*`, `REPLICATE_API_TOKEN`) beats the TOML file that `MEDIAGATE_CONFIG`
names, which beats the defaults here. Everything is checked before anything is opened.
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mediagate_server.errors import MediagateError

REPLICATE_API: Final = "https://api.replicate.com/v1"

SECTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "server": {
        "grpc_address": "grpc_address",
        "ops_address": "ops_address",
        "web_address": "web_address",
        "public_url": "public_url",
        "data_dir": "data_dir",
        "drain_seconds": "drain_seconds",
        "reflection": "reflection",
        "log_level": "log_level",
        "insecure_public": "insecure_public",
    },
    "upstream": {
        "kind": "upstream",
        "url": "upstream_url",
        "token": "replicate_api_token",
        "account": "upstream_account",
        "creates_per_minute": "creates_per_minute",
        "reads_per_minute": "reads_per_minute",
    },
    "limits": {
        "requests_per_minute": "requests_per_minute",
        "max_in_flight": "max_in_flight",
    },
    "defaults": {
        "text_model": "default_text_model",
        "image_model": "default_image_model",
        "video_model": "default_video_model",
        "audio_model": "default_audio_model",
        "text_timeout": "text_timeout",
        "image_timeout": "image_timeout",
        "video_timeout": "video_timeout",
        "audio_timeout": "audio_timeout",
        "use_fallback": "use_fallback",
        "enable_cost_optimization": "enable_cost_optimization",
    },
}
"""The file's sections and keys, and the setting that each one is."""

_LIVE: Final = frozenset(
    {*SECTIONS["limits"].values(), *SECTIONS["defaults"].values(), "drain_seconds"}
)
"""What a reload changes at once; everything else needs a restart."""


class ConfigError(MediagateError):
    """A setting is wrong. The text is for people and names the file, the line and the key."""


@dataclass(frozen=True, slots=True)
class UpstreamChoice:
    """Who answers. `base_url` is empty for the embedded sandbox, which is not there yet."""

    kind: Literal["replicate", "sandbox", "url"]
    base_url: str
    token: str | None


class Settings(BaseSettings):
    """Everything that can be set. Durations in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="MEDIAGATE_", frozen=True, extra="forbid", env_ignore_empty=True
    )

    grpc_address: str = "127.0.0.1:50051"
    ops_address: str = "127.0.0.1:9464"
    web_address: str = "127.0.0.1:9465"
    """Accepted; nothing listens there yet."""
    public_url: str = ""
    """Accepted; nothing is served there yet."""
    data_dir: Path = Path(".mediagate")
    database_url: str = ""
    """Accepted; the store is SQLite in `data_dir`."""
    redis_url: str = ""
    """Accepted; limits are kept in the process."""
    drain_seconds: float = Field(default=5.0, ge=0, le=600)
    reflection: bool = True
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    insecure_public: bool = False
    """Listen for gRPC on an address that others can reach, though nobody has to show a key."""

    upstream: Literal["replicate", "sandbox"] | None = None
    upstream_url: str = ""
    replicate_api_token: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("replicate_api_token", "REPLICATE_API_TOKEN")
    )
    upstream_account: str = "default"
    creates_per_minute: int = Field(default=600, ge=1)
    reads_per_minute: int = Field(default=3_000, ge=1)

    requests_per_minute: int = Field(default=0, ge=0)
    """For each tenant; 0 is no limit."""
    max_in_flight: int = Field(default=500, ge=0)
    """Generations of a tenant at once; 0 is no limit."""

    default_text_model: str = "llama-70b"
    default_image_model: str = "flux-schnell"
    default_video_model: str = "minimax-video"
    default_audio_model: str = "musicgen"
    text_timeout: float = Field(default=600, ge=5, le=86_400)
    image_timeout: float = Field(default=300, ge=5, le=86_400)
    video_timeout: float = Field(default=1_800, ge=5, le=86_400)
    audio_timeout: float = Field(default=300, ge=5, le=86_400)
    use_fallback: bool = True
    """Accepted; nothing falls back yet."""
    enable_cost_optimization: bool = False
    """Accepted; nothing chooses by price yet."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment beats what is given, which is the file."""
        return env_settings, init_settings

    @field_validator("replicate_api_token", mode="before")
    @classmethod
    def _dereference(cls, value: Any) -> Any:
        """`env:NAME` and `file:PATH` are read here; a token itself may come by environment only."""
        if isinstance(value, str) and value.startswith("env:"):
            return os.environ.get(value[4:]) or None
        if isinstance(value, str) and value.startswith("file:"):
            return Path(value[5:]).read_text().strip() or None
        return value

    @field_validator("grpc_address", "ops_address", "web_address")
    @classmethod
    def _has_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            raise ValueError("must be HOST:PORT")
        return value

    def upstream_choice(self) -> UpstreamChoice:
        """Who answers, and with which token. ConfigError says what to do where it cannot be."""
        token = self.replicate_api_token.get_secret_value() if self.replicate_api_token else None
        if self.upstream_url:
            return UpstreamChoice("url", self.upstream_url, token)
        kind = self.upstream or ("replicate" if token else "sandbox")
        if kind == "sandbox":
            return UpstreamChoice("sandbox", "", "sandbox")
        if not token:
            raise ConfigError(
                "MEDIAGATE_UPSTREAM=replicate needs a token: set REPLICATE_API_TOKEN, or use "
                "MEDIAGATE_UPSTREAM=sandbox to try everything without an account"
            )
        return UpstreamChoice("replicate", REPLICATE_API, token)

    def check_exposure(self) -> None:
        """Nobody has to show a key yet, so nobody from elsewhere may get in. Raises ConfigError."""
        if self.insecure_public or is_loopback(self.grpc_address):
            return
        raise ConfigError(
            f"grpc_address {self.grpc_address} can be reached by others and no keys are "
            "configured: anybody could spend your money. Listen on 127.0.0.1, or set "
            "MEDIAGATE_INSECURE_PUBLIC=1 if something else guards the port"
        )


def is_loopback(address: str) -> bool:
    """True for addresses that only this machine can reach."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(path: Path | None = None) -> Settings:
    """Read environment and file (`path`, else MEDIAGATE_CONFIG). Raises ConfigError."""
    named = os.environ.get("MEDIAGATE_CONFIG", "")
    if path is None and named:
        path = Path(named)
    text = _read(path) if path else ""
    values, lines = _flatten(text, path)
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigError(_explain(error, lines, path)) from None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _flatten(text: str, path: Path | None) -> tuple[dict[str, Any], dict[str, int]]:
    """The file's values by setting, and the line of each."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for section, content in document.items():
        known = SECTIONS.get(section)
        if known is None or not isinstance(content, dict):
            names = ", ".join(f"[{name}]" for name in SECTIONS)
            line = line_of(text, section)
            raise ConfigError(f"{path}, line {line}: {section}: not a section; there are {names}")
        for key, value in content.items():
            line = line_of(text, section, key)
            if key not in known:
                names = ", ".join(known)
                raise ConfigError(
                    f"{path}, line {line}: {section}.{key}: not a setting; there are {names}"
                )
            if known[key] == "replicate_api_token" and not str(value).startswith(("env:", "file:")):
                raise ConfigError(
                    f"{path}, line {line}: {section}.{key}: a secret does not belong into this "
                    'file; write "env:NAME" or "file:PATH"'
                )
            values[known[key]] = value
            lines[known[key]] = line
    return values, lines


def line_of(text: str, *path: str) -> int:
    """The line that sets a key: the end of the shortest part of the document that has it."""
    lines = text.splitlines(keepends=True)
    for count in range(1, len(lines) + 1):
        try:
            found: Any = tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        if found is not None:
            return count
    return len(lines)


def _explain(error: ValidationError, lines: Mapping[str, int], path: Path | None) -> str:
    """Each problem on a line of its own, with where it was set. Never shows a value."""
    problems = []
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        where = f"{path}, line {lines[name]}" if name in lines else "environment"
        problems.append(f"{where}: {name.removeprefix('MEDIAGATE_').lower()}: {problem['msg']}")
    return "\n".join(problems)


class Configuration:
    """The settings in force. A reload that fails changes nothing."""

    def __init__(self, settings: Settings, path: Path | None = None) -> None:
        self.current = settings
        self._path = path

    def reload(self) -> tuple[str, ...]:
        """Read again. Returns the settings that changed but need a restart. Raises ConfigError."""
        fresh = load_settings(self._path)
        changed = {
            name
            for name in Settings.model_fields
            if getattr(fresh, name) != getattr(self.current, name)
        }
        live = {name: getattr(fresh, name) for name in changed & _LIVE}
        self.current = self.current.model_copy(update=live)
        return tuple(sorted(changed - _LIVE))
