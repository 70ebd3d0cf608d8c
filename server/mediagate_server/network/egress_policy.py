"""Egress policy (SSRF protection): which addresses the server may connect to."""

import re
import unicodedata
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_NAT64: Final = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""The allocated part of IPv6. Everything else is of one host, link or site."""
_RESERVED_NETWORKS: Final = (
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv6Network("3fff::/20"),
)
"""Reserved, though `is_global` says otherwise: protocol assignments, 6to4 relays, documentation."""
_NUMBER: Final = r"(0x[0-9a-f]*|[0-9]+)"
_LEGACY_IPV4: Final = re.compile(rf"{_NUMBER}(\.{_NUMBER}){{0,3}}\.?", re.IGNORECASE)

Network = IPv4Network | IPv6Network


def is_public_address(address: str) -> bool:
    """Whether an IP address is public, also where IPv4 is embedded in IPv6.

    Raises ValueError for what is no IP address.
    """
    ip = _effective_address(address)
    if isinstance(ip, IPv6Address):
        if ip.sixtofour or ip.teredo:
            return False  # Tunnels, which may lead to any address.
        if ip not in _GLOBAL_UNICAST:
            return False
    if any(ip in network for network in _RESERVED_NETWORKS if network.version == ip.version):
        return False
    return ip.is_global and not ip.is_multicast


def is_private_host(host: str) -> bool:
    """Whether a URL's host is recognisably not of the public internet.

    Legacy IPv4 forms (one number, hexadecimal, octal) and percent-encoded hosts are all taken for
    private: nobody writes a public one so. What a name resolves to is not known here.
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
    """Egress policy: the public internet, and `networks` besides.

    The operator's networks may also be reached without TLS; nothing else may.
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
        """Whether a URL may have this host. A name's addresses are checked when it is resolved."""
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
    """Normalise a host as the resolver does: digits and dots of other scripts become ASCII."""
    return unicodedata.normalize("NFKC", host).replace("\u3002", ".").rstrip(".").lower()


def _effective_address(address: str) -> IPv4Address | IPv6Address:
    """The address that is connected to: IPv4 where it is embedded in IPv6."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        if ip in _NAT64:
            return IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip
    return ip


def _is_localhost(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")
