"""The secrets that webhooks may be signed with: the account's, asked for, and those configured."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from mediagate_server.replicate.port import UpstreamError
from mediagate_server.replicate.webhooks import key_of

_FRESH_SECONDS: Final = 60.0
"""How long the account's secret is used unasked: after a rotation the old one counts no longer."""
_PAUSE_SECONDS: Final = 1.0
"""Between two questions, however many webhooks come whose signature is not known."""
_MOST_WAITING: Final = 32

_log = structlog.get_logger()


class WebhookSecrets:
    """Keys to check signatures with.

    `fetch` asks upstream for the account's secret; `configured` gives those of the operator, as
    they are now. The account's is asked for when the first webhook comes, again after a minute,
    and when a signature is not known: then it may have been rotated.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[str]],
        configured: Callable[[], Sequence[str]],
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: float = _PAUSE_SECONDS,
    ) -> None:
        self._fetch = fetch
        self._configured = configured
        self._clock = clock
        self._pause = pause
        self._account: bytes | None = None
        self._asked_at = self._answered_at = float("-inf")
        self._questions = 0
        self._asking = asyncio.Lock()
        self._waiting = 0

    async def keys(self) -> tuple[bytes, ...]:
        """All that count now."""
        if self._is_old():
            async with self._asking:
                if self._is_old():
                    await self._ask()
        return self._all()

    async def newer(self) -> tuple[bytes, ...]:
        """All that count, asked for after this call; the same as before where too many ask.

        Those who wait for the answer share it, and questions are at least a second apart, so that
        forged webhooks cannot use up the account's rate.
        """
        if self._waiting >= _MOST_WAITING:
            return self._all()
        self._waiting += 1
        try:
            before = self._questions
            async with self._asking:
                if self._questions == before:
                    await self._ask()
        finally:
            self._waiting -= 1
        return self._all()

    def _all(self) -> tuple[bytes, ...]:
        account = () if self._account is None else (self._account,)
        return account + tuple(key_of(secret) for secret in self._configured())

    def _is_old(self) -> bool:
        return self._clock() - self._answered_at > _FRESH_SECONDS

    async def _ask(self) -> None:
        wait = self._asked_at + self._pause - self._clock()
        if wait > 0:
            await asyncio.sleep(wait)
        self._questions += 1
        self._asked_at = self._clock()
        try:
            self._account = key_of(await self._fetch())
        except (UpstreamError, ValueError) as error:
            # The one known before goes on to count; without any, polling finds every end.
            _log.warning("no webhook secret from upstream", error=type(error).__name__)
        self._answered_at = self._clock()
