"""Configuration: settings from TOML and environment, validated, with errors by line."""

from mediagate_server.config.address import is_loopback
from mediagate_server.config.file import ConfigError
from mediagate_server.config.loading import load_settings
from mediagate_server.config.reload import Configuration, FileWatch
from mediagate_server.config.settings import REPLICATE_API, Settings, UpstreamChoice
from mediagate_server.config.tenants import Budget, Tenant

__all__ = [
    "REPLICATE_API",
    "Budget",
    "ConfigError",
    "Configuration",
    "FileWatch",
    "Settings",
    "Tenant",
    "UpstreamChoice",
    "is_loopback",
    "load_settings",
]
