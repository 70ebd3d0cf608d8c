"""Relay of webhooks while recording: upstream posts to the recorder, the recorder to the receiver.

Only where upstream can reach the recorder: with a public URL, or if upstream runs on this machine.
Else webhooks go from upstream to their receivers, and a replay makes its own of the states that it
knows.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp
from yarl import URL

from mediagate_sandbox.cassettes.json_strings import rewrite_strings
from mediagate_sandbox.settings import SandboxSettings
from mediagate_sandbox.validation import is_this_machine, webhook_errors
from mediagate_sandbox.webhook_signing import WebhookSigner

PATH = "/cassette/webhooks/"
_MOST_IDS = 10_000
_NO_ANSWER = 502


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who gets the webhooks of a create, the origin that its links have, and its headers."""

    url: str
    origin: str
    headers: Mapping[str, str]


class WebhookRelay:
    """Receivers of webhooks, each behind a path that nobody can guess."""

    def __init__(
        self,
        upstream: str,
        settings: SandboxSettings,
        signer: WebhookSigner,
        session: aiohttp.ClientSession,
    ) -> None:
        """Relay webhooks of `upstream`, signed by `signer`."""
        self.is_used = settings.public_url is not None or is_this_machine(URL(upstream).host or "")
        self._settings = settings
        self._signer = signer
        self._session = session
        self._receivers: dict[str, Receiver] = {}
        self._originals: dict[str, str] = {}
        self._ids: OrderedDict[str, None] = OrderedDict()

    @property
    def secret(self) -> str:
        """The secret that webhooks are signed with."""
        return self._signer.secret

    def redirect(self, body: bytes, webhook: Any, origin: str, headers: Mapping[str, str]) -> bytes:
        """Return a create's body with the recorder as the receiver; a bad address is kept."""
        is_bad = webhook_errors(webhook, anywhere=self._settings.webhooks_over_http)
        if not self.is_used or not isinstance(webhook, str) or is_bad:
            return body
        path = PATH + secrets.token_urlsafe(24)
        self._receivers[path] = Receiver(webhook, origin, headers)
        self._originals[origin + path] = webhook
        return rewrite_strings(
            body, lambda name, text: origin + path if (name, text) == ("webhook", webhook) else text
        )

    def original(self, url: str) -> str | None:
        """Return the receiver's own address for one of the relay's."""
        return self._originals.get(url)

    def find(self, path: str) -> Receiver | None:
        """Find the receiver behind a path."""
        return self._receivers.get(path)

    def is_first(self, identifier: str) -> bool:
        """Whether a delivery comes for the first time: what is sent again is recorded once."""
        if identifier in self._ids:
            return False
        self._ids[identifier] = None
        if len(self._ids) > _MOST_IDS:
            self._ids.popitem(last=False)
        return True

    async def post(self, receiver: Receiver, identifier: str, body: bytes, now: datetime) -> int:
        """Post to a receiver; its status, for upstream, which tries again as it sees fit."""
        headers = {
            "Content-Type": "application/json",
            **self._signer.headers(identifier, now, body),
        }
        timeout = aiohttp.ClientTimeout(total=self._settings.webhook_timeout)
        try:
            async with self._session.post(
                receiver.url, data=body, headers=headers, allow_redirects=False, timeout=timeout
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, OSError, ValueError):
            return _NO_ANSWER
