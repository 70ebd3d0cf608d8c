"""Where a server keeps media: in its folder, or in a bucket of moto's."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from .leftover_data import Bucket, files_below

_PREFIX = "media/"


@dataclass(frozen=True)
class MediaLocation:
    """`settings` are a server's environment; without a `bucket` it is the folder."""

    settings: Mapping[str, str] = field(default_factory=dict)
    bucket: Bucket | None = None

    @classmethod
    def in_a_bucket(cls, s3: str) -> MediaLocation:
        """A new bucket, which is empty."""
        name = f"faults-{secrets.token_hex(8)}"
        assert httpx.put(f"{s3}/{name}").status_code == 200
        settings = {
            "MEDIAGATE_STORAGE_URL": f"s3://{name}/{_PREFIX.removesuffix('/')}",
            "MEDIAGATE_STORAGE_ENDPOINT": s3,
            "MEDIAGATE_STORAGE_ACCESS_KEY_ID": "an-id",
            "MEDIAGATE_STORAGE_SECRET_ACCESS_KEY": "a-secret",
        }
        return cls(settings, Bucket(f"{s3}/{name}"))

    def outputs(self, data: Path) -> dict[str, bytes]:
        """All outputs that are kept, by the keys that they are kept under."""
        if self.bucket is None:
            files = files_below(data / "media" / "kept")
        else:
            assert self.bucket.half_done() == []
            files = {
                name.removeprefix(_PREFIX): content for name, content in self.bucket.files().items()
            }
        return {
            key: content
            for key, content in files.items()
            if key.startswith("outputs/") and not key.endswith(".notes")
        }


FOLDER = MediaLocation()
