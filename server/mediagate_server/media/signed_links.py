"""Signed, expiring links to stored media.

Created each time that a generation is returned, never stored. Storage that can presign is linked to
directly. Otherwise a link leads to the server's own web port: who has it reads this one file until
it expires, and needs no key.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final
from urllib.parse import urlencode

from mediagate_server.media.media_store import MediaStore, output_key
from mediagate_server.store.records import Generation, State

MEDIA_PATH: Final = "/media"


@dataclass(frozen=True, slots=True)
class SignedLink:
    """A link to a medium, and its expiry."""

    uri: str
    expires_at: datetime


NO_LINKS: Final[Mapping[int, SignedLink]] = MappingProxyType({})


class MediaLinkSigner:
    """Signer and verifier of links.

    `base` is the URL of the web port as callers reach it; empty: they do not. `key` signs the
    server's own links. `lifetime` (seconds) is read for each.
    """

    def __init__(
        self,
        store: MediaStore,
        base: str,
        key: bytes,
        *,
        now: Callable[[], datetime],
        lifetime: Callable[[], float],
    ) -> None:
        self._store = store
        self._base = base.rstrip("/")
        self._key = key
        self._now = now
        self._lifetime = lifetime

    async def links_for(self, record: Generation) -> Mapping[int, SignedLink]:
        """Links of a generation's stored outputs, by index."""
        if not (record.output and record.output.media) or record.state is not State.SUCCEEDED:
            return NO_LINKS
        links = {}
        for index, medium in enumerate(record.output.media):
            if medium.is_stored and (link := await self._mint(record.id, index)):
                links[index] = link
        return links

    def is_valid(self, generation_id: str, index: str, expires: str, signature: str) -> bool:
        """Verify a link's signature; it may have expired."""
        expected = self._signature(generation_id, index, expires)
        return hmac.compare_digest(expected.encode(), signature.encode())

    async def _mint(self, generation_id: str, index: int) -> SignedLink | None:
        lifetime = self._lifetime()
        # Whole seconds as in the link, rounded down.
        expires_at = (self._now() + timedelta(seconds=lifetime)).replace(microsecond=0)
        if uri := await self._store.link(output_key(generation_id, index), lifetime):
            return SignedLink(uri, expires_at)
        if not self._base:
            return None
        expires = str(int(expires_at.timestamp()))
        query = urlencode(
            {
                "expires": expires,
                "signature": self._signature(generation_id, str(index), expires),
            }
        )
        return SignedLink(f"{self._base}{MEDIA_PATH}/{generation_id}/{index}?{query}", expires_at)

    def _signature(self, generation_id: str, index: str, expires: str) -> str:
        message = f"{generation_id}/{index}/{expires}".encode()
        digest = hmac.digest(self._key, message, hashlib.sha256)
        return urlsafe_b64encode(digest).rstrip(b"=").decode()
