"""Listen addresses and bucket URLs: parsing, and whether only this machine can connect."""

import ipaddress
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mediagate_server.config.setting_names import environment_variable

_HOST: Final = re.compile(r"\[(?P<six>[0-9a-fA-F:.]+(%\w+)?)\]|(?P<name>[\w.*-]+)", re.ASCII)
_BUCKET: Final = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([A-Za-z0-9/._-]*))?")
_SOCKETS: Final = ("unix:", "unix-abstract:")


def split_address(address: str) -> tuple[str, int]:
    """Parse HOST:PORT; an IPv6 host without brackets. Raises ValueError with the expected form."""
    host, _, port = address.rpartition(":")
    match = _HOST.fullmatch(host)
    if match is None or not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65_535:
        raise ValueError("must be HOST:PORT, an IPv6 host in brackets, a port up to 65535")
    if (six := match["six"]) is None:
        return match["name"], int(port)
    try:
        ipaddress.IPv6Address(six)
    except ValueError:
        raise ValueError("must have an IPv6 address in its brackets") from None
    return six, int(port)


def format_address(host: str, port: int) -> str:
    """HOST:PORT; an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(address: str) -> bool:
    """Whether only this machine can connect to a listen address.

    True for Unix sockets, `localhost`, 127.0.0.0/8 and ::1. Any other name counts as public,
    whatever it resolves to today; so do 0.0.0.0 and [::], which are every interface.
    """
    if address.startswith(_SOCKETS):
        return True
    try:
        host, _ = split_address(address)
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split_bucket_url(url: str) -> tuple[str, str]:
    """Parse `s3://bucket/prefix` to bucket and prefix. Raises ValueError."""
    match = _BUCKET.fullmatch(url)
    if match is None:
        raise ValueError("must be s3://BUCKET or s3://BUCKET/PREFIX")
    return match[1], (match[2] or "").strip("/")


class ListenError(OSError):
    """An address is in use, or may not be listened on."""


@contextmanager
def explain_listen_error(setting: str, address: str) -> Iterator[None]:
    """Convert an OSError to a ListenError that names the address and its setting."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise ListenError(
            f"{address}: {reason}; {environment_variable(setting)} sets another"
        ) from error
