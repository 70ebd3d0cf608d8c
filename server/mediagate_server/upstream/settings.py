"""Settings of one upstream account: rate limits, circuit breaker, connection and timeouts."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """Rate limits of the account and thresholds of the circuit breaker. Times in seconds.

    `creates_per_minute`, `reads_per_minute`: what Replicate grants one account; reads are
    all requests but creates. `max_streams`: open at once. `breaker_*`: open at
    `breaker_ratio` failures of at least `breaker_least` requests within `breaker_window`; try again
    after `breaker_pause`.
    """

    creates_per_minute: int = 600
    reads_per_minute: int = 3_000
    max_streams: int = 1_200
    breaker_window: float = 30.0
    breaker_least: int = 20
    breaker_ratio: float = 0.5
    breaker_pause: float = 10.0

    def __post_init__(self) -> None:
        """Raises ValueError for rates below 1."""
        if self.creates_per_minute < 1 or self.reads_per_minute < 1:
            raise ValueError("the rates of an account must be at least 1 a minute")


_MIB = 1024 * 1024
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class ReplicateSettings:
    """Connection and timeouts of one upstream account. Times in seconds.

    `base_url`: the API's root, http or https, with or without its last segment `/v1`, with or
    without a path before it: where the path does not end in `/v1`, `/v1` is added.
    `token`: goes to the host of `base_url` and nowhere else; None sends none.
    `connect_timeout`: waiting for a free connection, DNS, TCP and TLS together. It is the longest
    that a request can fail late and still be known not to have been sent, so it must stay below
    the other timeouts; and callers are to know within five seconds that upstream is not there.
    `create_timeout`, `read_timeout`: a whole request, body included; `read_timeout` is for get,
    cancel, list and for opening a stream.
    `upload_timeout`: a whole upload of a file.
    `stream_idle_timeout`: a stream this long without a byte counts as closed.
    `max_connections`: to the API. `max_streams`: open streams, kept apart so that no number of
    streams can keep a cancel from being sent.
    `keepalive`: an idle connection this old is not used again. A server that closes one just as
    a create is written to it leaves that create in doubt, so this must be well under the idle
    limit of the server; those of public edges are minutes.
    `body_folder`: where large answers lie while they are read; it is cleared at the start. None:
    a temporary one.
    """

    base_url: str = "https://api.replicate.com/v1"
    token: str | None = field(default=None, repr=False)
    connect_timeout: float = 3.0
    create_timeout: float = 30.0
    read_timeout: float = 10.0
    upload_timeout: float = 300.0
    stream_idle_timeout: float = 60.0
    max_connections: int = 400
    max_streams: int = 1_200
    keepalive: float = 15.0
    max_event_bytes: int = 256 * 1024
    """Largest incomplete event, in bytes. Each of a thousand open streams may buffer so many;
    longer texts come with the terminal prediction."""
    body_folder: Path | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for an invalid base URL or token, without showing the token."""
        api_root(self.base_url)
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            # Sent as it is, a line break would split the header; a library's error about that
            # may show the value.
            raise ValueError("the API token has characters that no token has")
        if not self.connect_timeout < min(self.create_timeout, self.read_timeout):
            raise ValueError("connect_timeout must be shorter than the other timeouts")


def api_root(base_url: str) -> str:
    """The base of all paths: ends in `/v1`, without a slash after it.

    Raises ValueError where the URL is not http(s), or has credentials, a query or a fragment.
    """
    url = urlsplit(base_url.strip())
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("the upstream URL must be http:// or https:// with a host")
    if url.username is not None or url.password is not None:
        # An HTTP client would send these in place of the token.
        raise ValueError("the upstream URL must not hold credentials")
    if url.port == 0:  # reading it also checks that it is a number in range
        raise ValueError("the upstream URL must not have port 0")
    if url.query or url.fragment:
        raise ValueError("the upstream URL must not have a query or a fragment")
    path = url.path.rstrip("/")
    if not path.endswith("/v1"):
        path += "/v1"
    return f"{url.scheme}://{url.netloc}{path}"
