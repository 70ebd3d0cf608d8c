"""Where media are kept, if not in a folder: a bucket of S3, or of what speaks its protocol."""

from dataclasses import dataclass, field
from typing import Self

from mediagate_server.config import Settings
from mediagate_server.config.address import split_bucket_url


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where it is. `endpoint` empty: AWS. Without keys, what the environment of AWS says counts:
    AWS_ACCESS_KEY_ID, a role, or the machine's own.
    """

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """The bucket that is set; None: there is none."""
        if not settings.storage_url:
            return None
        name, prefix = split_bucket_url(settings.storage_url)
        key_id, secret = settings.storage_access_key_id, settings.storage_secret_access_key
        return cls(
            name,
            prefix,
            settings.storage_endpoint,
            settings.storage_region,
            key_id.get_secret_value() if key_id else "",
            secret.get_secret_value() if secret else "",
        )
