"""HTTP listener: the socket that a server of the sandbox listens on, and its TLS certificate."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

from mediagate_sandbox.request_log import RequestLog
from mediagate_sandbox.server_log import ServerLog
from mediagate_sandbox.settings import SandboxSettings

if TYPE_CHECKING:
    from mediagate_sandbox.tls_certificate import ServerTls

_GRACE_SECONDS = 0.1
"""How long answers under way may take when the sandbox stops; streams are then cut."""


@dataclass(frozen=True, slots=True)
class HttpListener:
    """A listening socket, on which nothing is answered yet."""

    url: str
    """Origin, such as `http://127.0.0.1:8787`, without a trailing slash."""
    ca_file: Path | None
    """With `tls`, the certificate (PEM) that clients must trust."""
    _socket: socket.socket
    _ssl_context: ssl.SSLContext | None

    @asynccontextmanager
    async def serve(self, application: web.Application, log: RequestLog) -> AsyncIterator[None]:
        """Answer with the application; at the end close its connections."""
        runner = web.AppRunner(
            application,
            access_log=None,
            logger=ServerLog(log),
            handler_cancellation=True,
            shutdown_timeout=_GRACE_SECONDS,
        )
        await runner.setup()
        try:
            await web.SockSite(runner, self._socket, ssl_context=self._ssl_context).start()
            yield
        finally:
            await runner.cleanup()


@contextmanager
def open_listener(settings: SandboxSettings) -> Iterator[HttpListener]:
    """Listen where the settings say.

    Raises OSError if the address is taken, ModuleNotFoundError with `tls` if `cryptography` is not
    installed.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    address = (settings.host, settings.port)
    with (
        socket.create_server(address, family=family, backlog=1024) as listening,
        _issued_tls(settings) as tls,
    ):
        scheme, host = "https" if settings.tls else "http", settings.host
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        ca_file, context = (None, None) if tls is None else (tls.ca_file, tls.context)
        yield HttpListener(url, ca_file, listening, context)


@contextmanager
def _issued_tls(settings: SandboxSettings) -> Iterator[ServerTls | None]:
    """Issue the certificate if the settings want TLS, for the hosts that they name."""
    if not settings.tls:
        yield None
        return
    # Imported with the first certificate, so that a sandbox without TLS starts at once.
    from mediagate_sandbox.tls_certificate import issued_certificate  # noqa: PLC0415

    public_host = urlsplit(settings.public_url or "").hostname or ""
    with issued_certificate((settings.host, public_host), settings.tls_ca_file) as tls:
        yield tls
