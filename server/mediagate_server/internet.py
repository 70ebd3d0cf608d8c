"""Which addresses are of the public internet, in every form that one can be written."""

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

_NAT64: Final = IPv6Network("64:ff9b::/96")
_NUMBER: Final = r"(0x[0-9a-f]*|[0-9]+)"
_OLD_FORM: Final = re.compile(rf"{_NUMBER}(\.{_NUMBER}){{0,3}}\.?", re.IGNORECASE)


def is_global(address: str) -> bool:
    """Whether an IP address is one of the public internet, also where IPv4 is told as IPv6.

    Raises ValueError for what is no IP address.
    """
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        if found.sixtofour or found.teredo:
            return False  # Tunnels, in which anything may be hidden.
        if found in _NAT64:
            found = IPv4Address(int(found) & 0xFFFFFFFF)
        elif found.ipv4_mapped:
            found = found.ipv4_mapped
    return found.is_global and not found.is_multicast


def names_private_place(host: str) -> bool:
    """Whether a URL's host says by itself that it is not of the public internet.

    Addresses in the old forms (one number, hexadecimal, octal) are all taken for private: nobody
    writes a public one so. A name that leads to a private address cannot be told from here.
    """
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return not is_global(name)
    except ValueError:
        return _OLD_FORM.fullmatch(name) is not None
