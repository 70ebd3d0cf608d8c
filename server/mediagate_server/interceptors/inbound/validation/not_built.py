"""What the contract has and this server does not serve yet: setting it is refused, never ignored.

Data, to be shortened as things get built. The changelog lists the same.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

NOT_BUILT_FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
"""Message's full name, then the fields that may not be set."""

NOT_BUILT_VALUES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
"""Enum's full name, then the values that may not be used."""
