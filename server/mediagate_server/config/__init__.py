"""What can be set, where it comes from, and what is wrong with it, by line."""

from mediagate_server.config.address import is_loopback
from mediagate_server.config.live import Configuration
from mediagate_server.config.loading import load_settings
from mediagate_server.config.problem import ConfigError
from mediagate_server.config.settings import REPLICATE_API, Settings, UpstreamChoice
from mediagate_server.config.tenants import Budget, Tenant
from mediagate_server.config.watch import FileWatch

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
