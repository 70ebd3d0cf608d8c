"""Setting names: section and key in the file, variable in the environment."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

SECTIONS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "server": {
            "grpc_address": "grpc_address",
            "ops_address": "ops_address",
            "web_address": "web_address",
            "public_url": "public_url",
            "data_dir": "data_dir",
            "lease_seconds": "lease_seconds",
            "database_url": "database_url",
            "redis_url": "redis_url",
            "drain_seconds": "drain_seconds",
            "connection_age": "connection_age",
            "connection_grace": "connection_grace",
            "reflection": "reflection",
            "log_level": "log_level",
            "log_format": "log_format",
            "insecure_public": "insecure_public",
        },
        "upstream": {
            "kind": "upstream",
            "url": "upstream_url",
            "token": "replicate_api_token",
            "account": "upstream_account",
            "webhook_secrets": "webhook_secrets",
            "exclusive": "upstream_exclusive",
            "playback": "upstream_playback",
            "creates_per_minute": "creates_per_minute",
            "reads_per_minute": "reads_per_minute",
            "max_streams": "upstream_max_streams",
            "connect_timeout": "upstream_connect_timeout",
            "create_timeout": "upstream_create_timeout",
            "read_timeout": "upstream_read_timeout",
            "upload_timeout": "upstream_upload_timeout",
            "sweep_seconds": "sweep_seconds",
            "absent_margin": "absent_margin",
            "api_error_margin": "api_error_margin",
            "reconcile_seconds": "reconcile_seconds",
        },
        "limits": {
            "requests_per_minute": "requests_per_minute",
            "max_in_flight": "max_in_flight",
            "allow_next_when_unconfirmed": "allow_next_when_unconfirmed",
            "max_open_rpcs": "max_open_rpcs",
            "receive_timeout": "receive_timeout",
            "assume_unknown_usd": "assume_unknown_usd",
            "allow_weaker_safety": "allow_weaker_safety",
            "allow_assumed_prices": "allow_assumed_prices",
        },
        "media": {
            "output_max_bytes": "output_max_bytes",
            "output_timeout": "output_timeout",
            "output_idle_timeout": "output_idle_timeout",
            "upload_max_bytes": "upload_max_bytes",
            "upload_life": "upload_life",
            "link_life": "link_life",
        },
        "retention": {
            "store_inputs": "store_inputs",
            "inputs_life": "inputs_life",
            "text_life": "text_life",
            "media_life": "media_life",
        },
        "storage": {
            "url": "storage_url",
            "endpoint": "storage_endpoint",
            "region": "storage_region",
            "access_key_id": "storage_access_key_id",
            "secret_access_key": "storage_secret_access_key",
        },
        "defaults": {
            "text_model": "default_text_model",
            "image_model": "default_image_model",
            "video_model": "default_video_model",
            "audio_model": "default_audio_model",
            "safety_model": "default_safety_model",
            "text_timeout": "text_timeout",
            "image_timeout": "image_timeout",
            "video_timeout": "video_timeout",
            "audio_timeout": "audio_timeout",
            "safety_timeout": "safety_timeout",
            "run_timeout": "run_timeout",
            "use_fallback": "use_fallback",
            "enable_cost_optimization": "enable_cost_optimization",
        },
        "webhooks": {"networks": "webhook_networks"},
        "catalog": {"files": "catalog_files", "check_hours": "catalog_check_hours"},
    }
)
"""Setting by section and key of the file."""

SECRET_SETTINGS: Final = frozenset(
    {
        "replicate_api_token",
        "database_url",
        "redis_url",
        "webhook_secrets",
        "storage_access_key_id",
        "storage_secret_access_key",
    }
)
"""Settings that the file may only reference. URLs are among them for their passwords."""

LIST_SETTINGS: Final = frozenset({"webhook_secrets", "webhook_networks", "catalog_files"})
"""Settings with several values: an array in the file, comma-separated in the environment."""

PATH_SETTINGS: Final = frozenset({"catalog_files"})
"""Settings that are paths: in the file they are relative to its own folder."""

FILE_ONLY: Final = frozenset({"tenants"})
"""Settings without a variable; for `[tenants.NAME]` see tenants.py."""

RELOADABLE: Final = frozenset(
    {
        *FILE_ONLY,
        *SECTIONS["limits"].values(),
        *SECTIONS["media"].values(),
        *SECTIONS["retention"].values(),
        *SECTIONS["defaults"].values(),
        *SECTIONS["catalog"].values(),
        "drain_seconds",
        "log_format",
        "log_level",
        "webhook_secrets",
    }
)
"""Settings that a reload applies at once; all others need a restart."""

UNIMPLEMENTED: Final = frozenset(
    {
        "database_url",
        "redis_url",
    }
)
"""Settings that are rejected: what they configure is not implemented."""

_OWN: Final[Mapping[str, str]] = MappingProxyType({"replicate_api_token": "REPLICATE_API_TOKEN"})


def environment_variable(setting: str) -> str:
    """The environment variable of a setting."""
    return _OWN.get(setting, f"MEDIAGATE_{setting.upper()}")
