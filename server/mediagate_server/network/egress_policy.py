"""Which addresses are of the public internet, in every form that one can be written."""

import re
import unicodedata
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_NAT64: Final = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All of IPv6 that is handed out. What lies outside is of one host, one link or one site."""
_RESERVED_NETWORKS: Final = (
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv6Network("3fff::/20"),
)
"""Global by their looks only: for protocols, where 6to4 began, and for books."""
_NUMBER: Final = r"(0x[0-9a-f]*|[0-9]+)"
_LEGACY_IPV4: Final = re.compile(rf"{_NUMBER}(\.{_NUMBER}){{0,3}}\.?", re.IGNORECASE)

Network = IPv4Network | IPv6Network


def is_public_address(address: str) -> bool:
    """Whether an IP address is one of the public internet, also where IPv4 is told as IPv6.

    Raises ValueError for what is no IP address.
    """
    ip = _effective_address(address)
    if isinstance(ip, IPv6Address):
        if ip.sixtofour or ip.teredo:
            return False  # Tunnels, in which anything may be hidden.
        if ip not in _GLOBAL_UNICAST:
            return False
    if any(ip in network for network in _RESERVED_NETWORKS if network.version == ip.version):
        return False
    return ip.is_global and not ip.is_multicast


def is_private_host(host: str) -> bool:
    """Whether a URL's host says by itself that it is not of the public internet.

    Addresses in the old forms (one number, hexadecimal, octal) are all taken for private, and so is
    what is percent-encoded: nobody writes a public one so. A name that leads to a private address
    cannot be told from here.
    """
    name = _normalize_host(host)
    if "%" in name or _is_localhost(name):
        return True
    try:
        return not is_public_address(name)
    except ValueError:
        return _LEGACY_IPV4.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Where something may be sent: to the public internet, and into `networks` besides.

    What an operator has let in by its network may also be reached without TLS; nothing else.
    """

    networks: tuple[Network, ...] = ()

    def allows_address(self, address: str, *, plaintext: bool = False) -> bool:
        """Whether an IP address may be connected to; `plaintext`: without TLS.

        Raises ValueError for what is no IP address.
        """
        return self._is_in_networks(_effective_address(address)) or (
            not plaintext and is_public_address(address)
        )

    def allows_host(self, host: str, *, plaintext: bool = False) -> bool:
        """Whether a URL may have this host. What a name leads to is seen when it is resolved."""
        name = _normalize_host(host)
        if not name or "%" in name:
            return False
        if _is_localhost(name):
            return any(
                self._is_in_networks(ip_address(address)) for address in ("127.0.0.1", "::1")
            )
        try:
            return self.allows_address(name, plaintext=plaintext)
        except ValueError:
            is_dns_name = _LEGACY_IPV4.fullmatch(name) is None
            return is_dns_name and (not plaintext or bool(self.networks))

    def _is_in_networks(self, ip: IPv4Address | IPv6Address) -> bool:
        return any(ip in network for network in self.networks if network.version == ip.version)


def _normalize_host(host: str) -> str:
    """A host as the resolver gets it: digits and dots of other scripts become ours on the way."""
    return unicodedata.normalize("NFKC", host).replace("\u3002", ".").rstrip(".").lower()


def _effective_address(address: str) -> IPv4Address | IPv6Address:
    """The address that is reached, which is IPv4's where it is only told as IPv6."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        if ip in _NAT64:
            return IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip
    return ip


def _is_localhost(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")
