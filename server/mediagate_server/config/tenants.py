"""Tenants: API keys, limits, labels and budgets, as the file defines them.

    [tenants.acme]
    keys = ["env:ACME_KEY", "file:/run/secrets/acme", "sha256:…"]
    requests_per_minute = 600
    [tenants.acme.budgets.monthly]
    period = "month"
    limit_usd = "100.00"

Of a key only its SHA-256 is in memory: enough to authenticate it, and nothing that could be sent.
"""

import hashlib
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

LABEL_KEY_PATTERN: Final = r"[a-z0-9_.-]{1,63}"
LABEL_KEY_RULE: Final = "1 to 63 of [a-z0-9_.-]"
MAX_LABEL_VALUE: Final = 128
"""Maximum characters."""
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII | re.IGNORECASE)
_MIN_KEY_CHARACTERS, _MAX_KEY_CHARACTERS = 16, 512
_NANOS: Final = 10**9
_MAX_USD: Final = Decimal(9_000_000_000)
"""Maximum that fits into 64 bits as nano-dollars."""
_MAX_ASSUMED_USD: Final = Decimal(1_000_000)
"""Maximum estimate of a run (catalog/pricing/prices.py): sums over all runs of a call fit into 64
bits."""
TenantName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
"""Name of a tenant or a budget, as in records, logs and metrics."""
Period = Literal["day", "month", "total"]
StoreInputs = Literal["none", "redacted", "full"]


def label_violation(key: str, value: str) -> str | None:
    """Validation error of a label, as a phrase after its field's name; None where it is valid."""
    if not re.fullmatch(LABEL_KEY_PATTERN, key):
        return f"must have a key of {LABEL_KEY_RULE}"
    if len(value) > MAX_LABEL_VALUE:
        return f"must have a value of at most {MAX_LABEL_VALUE} characters"
    return None


def key_digest(key: str) -> bytes:
    """SHA-256 of an API key. Keys are random, so a fast hash cannot be brute-forced."""
    return hashlib.sha256(key.encode()).digest()


def parse_key_digest(text: str) -> bytes:
    """Digest of a key, or of what is a digest already (`sha256:` and 64 hexadecimal digits).

    ValueError where it is neither; its message never repeats it.
    """
    if match := _DIGEST.fullmatch(text):
        return bytes.fromhex(match[1])
    if text.casefold().startswith("sha256:"):
        raise ValueError("must have 64 hexadecimal digits after sha256:")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("holds characters that no key has")
    if not _MIN_KEY_CHARACTERS <= len(text) <= _MAX_KEY_CHARACTERS:
        raise ValueError(f"must be of {_MIN_KEY_CHARACTERS} to {_MAX_KEY_CHARACTERS} characters")
    return key_digest(text)


def _usd(value: Any) -> Decimal:
    """Dollars, as text or an integer. Never a float: it has lost digits."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise ValueError('must be dollars as text, like "12.50"')  # noqa: TRY004 - pydantic's
    try:
        usd = Decimal(value)
    except InvalidOperation:
        raise ValueError('must be dollars as text, like "12.50"') from None
    if not usd.is_finite() or not 0 <= usd <= _MAX_USD:
        raise ValueError(f"must be from 0 to {_MAX_USD}")
    if (usd * _NANOS) % 1:
        raise ValueError("must have at most nine digits after the point")
    return usd


def _assumed(value: Any) -> Decimal | None:
    """None, or more than zero: an unknown cost is never zero."""
    usd = None if value is None else _usd(value)
    if usd is not None and not usd:
        raise ValueError("must be more than 0")
    if usd is not None and usd > _MAX_ASSUMED_USD:
        raise ValueError(f"must be at most {_MAX_ASSUMED_USD}")
    return usd


def _label(value: Any) -> tuple[str, str]:
    """KEY=VALUE as a request can carry it: otherwise no call would ever count."""
    if not isinstance(value, str):
        raise ValueError("must be text: KEY=VALUE")  # noqa: TRY004 - pydantic's
    key, equals, label_value = value.partition("=")
    if not (key and equals):
        raise ValueError("must be KEY=VALUE")
    if violation := label_violation(key, label_value):
        raise ValueError(violation)
    return key, label_value


def _webhook_url(value: str) -> str:
    """An http or https URL. Errors never repeat it: it may hold a secret."""
    url = urlsplit(value)
    if value and not (url.scheme in {"http", "https"} and url.hostname and url.port != 0):
        raise ValueError("must be an https URL with a host")
    if url.username is not None or url.password is not None:
        raise ValueError("must not hold user or password")
    return value


Usd = Annotated[Decimal, BeforeValidator(_usd)]
AssumedUsd = Annotated[Decimal | None, BeforeValidator(_assumed)]
BudgetLabel = Annotated[tuple[str, str], BeforeValidator(_label)]
LimitSetting = Annotated[int, Field(ge=0, le=1_000_000_000)]
WebhookUrlSetting = Annotated[str, Field(max_length=2_048), AfterValidator(_webhook_url)]


class Budget(BaseModel):
    """Spending limit of a tenant per day, per month (both in UTC) or in total."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: TenantName
    period: Period
    limit_usd: Usd
    label: BudgetLabel | None = None
    """Only calls with this label count; None: all calls."""
    shadow: bool = False
    """Rejects nothing, only counts what it would have rejected."""

    @property
    def limit_nanos(self) -> int:
        """The limit in nano-dollars."""
        return int(self.limit_usd * _NANOS)


class Tenant(BaseModel):
    """Tenant: an identity with API keys, limits and budgets, whose calls are billed together."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: TenantName
    keys: tuple[bytes, ...] = Field(repr=False)
    """SHA-256 of each key. Empty: nobody can call as this tenant."""
    key_files: tuple[Path, ...] = ()
    """Files of keys; a changed file is a changed key."""
    admin: bool = False
    """Whether it may call AdminService, and see the spending of others."""
    requests_per_minute: LimitSetting | None = None
    """None: the default of the settings, likewise the next three; 0: no limit."""
    max_in_flight: LimitSetting | None = None
    allow_next_when_unconfirmed: bool | None = None
    store_inputs: StoreInputs | None = None
    allow_assumed_prices: bool | None = None
    """None: the default of the settings."""
    budgets: tuple[Budget, ...] = ()
    webhook_url: WebhookUrlSetting = Field(default="", repr=False)
    """URL of webhooks about budget thresholds."""
