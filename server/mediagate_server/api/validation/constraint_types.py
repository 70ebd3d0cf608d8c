"""Constraints on values: ranges, lengths, patterns, URLs. They know no fields."""

import re
from collections.abc import Collection, Sized
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, urlsplit

from mediagate_server.config import tenants
from mediagate_server.network.egress_policy import EgressPolicy, is_private_host
from mediagate_server.network.request_url import parse_request_url


class Constraint(Protocol):
    """A constraint on a value."""

    def violation(self, value: Any) -> str | None:
        """What is wrong with `value`, as a phrase after its field's name; None: nothing."""


@dataclass(frozen=True, slots=True)
class NumberRange:
    """From `low` to `high`, both allowed, unless `exclude_low` leaves `low` itself out."""

    low: float | None = None
    high: float | None = None
    exclude_low: bool = False

    def violation(self, value: float) -> str | None:
        """Whether a number is out of range."""
        if self.low is not None and (value < self.low or (self.exclude_low and value == self.low)):
            return self._words
        if self.high is not None and value > self.high:
            return self._words
        return None

    @property
    def _words(self) -> str:
        low = f"{self.low:,}" if self.low is not None else ""
        if self.high is None:
            return f"must be over {low}" if self.exclude_low else f"must be at least {low}"
        if self.low is None:
            return f"must be at most {self.high:,}"
        start = f"over {low}" if self.exclude_low else f"from {low}"
        return f"must be {start} to {self.high:,}"


@dataclass(frozen=True, slots=True)
class DurationRange:
    """A Duration of `low` to `high` seconds; `exclude_low` leaves `low` itself out."""

    low: float
    high: float | None
    exclude_low: bool = False

    def violation(self, value: Any) -> str | None:
        """Whether a Duration is out of range."""
        seconds = value.seconds + value.nanos / 1e9
        words = NumberRange(self.low, self.high, self.exclude_low).violation(seconds)
        return f"{words} seconds" if words else None


@dataclass(frozen=True, slots=True)
class TextLength:
    """`low` to `high` characters; with `words`, more than white space."""

    low: int = 0
    high: int | None = None
    words: bool = False

    def violation(self, value: str) -> str | None:
        """Whether a text is too short, too long or blank."""
        if len(value) < self.low:
            return "must not be empty" if self.low == 1 else f"must have {self.low:,} characters"
        if self.high is not None and len(value) > self.high:
            return f"must have at most {self.high:,} characters"
        if self.words and value and not value.strip():
            return "must not be blank"
        return None


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression that must match in full; `must` says what that means."""

    pattern: str
    must: str

    def violation(self, value: str) -> str | None:
        """Whether a text has another form."""
        return None if re.fullmatch(self.pattern, value, re.ASCII) else f"must be {self.must}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of some enum numbers; `must` says their names."""

    numbers: Collection[int]
    must: str

    def violation(self, value: int) -> str | None:
        """Whether it is another number."""
        return None if value in self.numbers else f"must be {self.must}"


@dataclass(frozen=True, slots=True)
class MaxItems:
    """A list or map of at most `high` entries, each under `each`."""

    high: int
    each: Constraint | None = None

    def violation(self, value: Sized) -> str | None:
        """Whether there are too many. Each entry is checked by the validator."""
        return f"must have at most {self.high:,} entries" if len(value) > self.high else None


@dataclass(frozen=True, slots=True)
class Labels:
    """A map of at most `high` labels."""

    high: int = 16

    def violation(self, value: Any) -> str | None:
        """Whether there are too many. Keys and values are checked one by one."""
        return f"must have at most {self.high:,} labels" if len(value) > self.high else None

    def entry_violation(self, key: str, value: str) -> str | None:
        """What is wrong with one label."""
        return tenants.label_violation(key, value)


@dataclass(frozen=True, slots=True)
class FileSize:
    """The bytes of a file within the request: 1 to `high`. Over it, the error has its own name."""

    high: int

    def violation(self, value: bytes) -> str | None:
        """Whether there are none, or too many."""
        if not value:
            return "must not be empty"
        if len(value) > self.high:
            return f"must have at most {self.high:,} bytes; send a larger one by uri"
        return None


@dataclass(frozen=True, slots=True)
class WebhookUrlConstraint:
    """A URL that the server itself posts to: https, allowed by `egress_policy`, without user info.

    Plain http is for networks that an operator has allowed.
    """

    egress_policy: EgressPolicy
    high: int = 2_048

    def violation(self, value: str) -> str | None:
        """Whether it is no such URL. Says nothing of what it is: a URL may hold a secret."""
        if words := HttpsUrl(self.high, plain=bool(self.egress_policy.networks)).violation(value):
            return words
        url = urlsplit(value)
        plaintext = url.scheme != "https"
        for host in (url.hostname or "", _sent_host(value)):
            if not self.egress_policy.allows_host(host, plaintext=plaintext):
                return "must not lead where this server sends nothing"
        return None


_NAME: Final = re.compile(r"(?!.*://)[\w.@:/-]+", re.ASCII)
_CONTROL_OR_SPACE: Final = re.compile(r"[\x00-\x20\x7f\\]")


@dataclass(frozen=True, slots=True)
class HttpsUrl:
    """An https URL with a host and no user info.

    `or_name`: anything without a scheme is a name and may pass. `loopback`: plain http to this
    machine may pass, which is where an embedded sandbox has its outputs. `public`: the host must
    not be an address of a private network. `plain`: so may plain http to anywhere.
    """

    high: int = 2_048
    or_name: bool = False
    loopback: bool = False
    public: bool = False
    plain: bool = False

    def violation(self, value: str) -> str | None:
        """Whether it is no such URL. Says nothing of what it is: a URL may hold a secret."""
        if len(value) > self.high:
            return f"must have at most {self.high:,} characters"
        if self.or_name and _NAME.fullmatch(value):
            return None
        if _CONTROL_OR_SPACE.search(value):
            return "must not have spaces, backslashes or control characters"
        try:
            url = urlsplit(value)
            port_is_wrong = url.port == 0
        except ValueError:
            return "must be an https URL"
        if url.username is not None or url.password is not None:
            return "must not have user info"
        if not url.hostname or port_is_wrong or not self._may_use(url):
            return "must be an https URL"
        hosts = {url.hostname}
        if not value.isascii():
            # As it will be sent: the ASCII form of an internationalized host is checked, too.
            hosts.add(_sent_host(value))
        if not all(hosts):
            return "must have a host that can be looked up"
        if self.public and any(map(self._is_private, hosts)):
            return "must not lead into a private network"
        return None

    def _is_private(self, host: str) -> bool:
        return is_private_host(host) and not (self.loopback and _is_loopback(host))

    def _may_use(self, url: SplitResult) -> bool:
        if url.scheme == "https" or (self.plain and url.scheme == "http"):
            return True
        return self.loopback and url.scheme == "http" and _is_loopback(url.hostname or "")


def _sent_host(value: str) -> str:
    """The host of a URL in ASCII, as it is looked up; empty where there is none."""
    try:
        return parse_request_url(value).raw_host or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
