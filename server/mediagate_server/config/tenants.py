"""Tenants: API keys, limits, labels and budgets, and the parser of their tables in the file.

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
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from mediagate_server.config.file import ConfigFile, ConfigProblem, validation_problems

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


TENANTS_SECTION: Final = "tenants"
_NAME_RULE: Final = "must be 1 to 63 of a-z, 0-9, - and _, a letter or digit first"
Checked = TypeVar("Checked")
Resolve = Callable[[str], tuple[str | None, Path | None, str]]
"""Resolves `env:` or `file:` to the text, the file if it is one, and the error if there is none."""


class TenantTableReader:
    """Parser of the tenants' tables. With any error in `problems`, no tenant is to be trusted."""

    def __init__(self, file: ConfigFile, resolve: Resolve) -> None:
        self._file = file
        self._resolve = resolve
        self._owners: dict[bytes, str] = {}
        self.problems: list[ConfigProblem] = []

    def read(self) -> tuple[Tenant, ...]:
        """Parse all tenants, in the order of the file."""
        tables = self._file.document[TENANTS_SECTION]
        if not isinstance(tables, dict):
            self._add_problem("holds a table for each tenant: [tenants.NAME]")
            return ()
        tenants = [self._read_tenant(name, table) for name, table in tables.items()]
        return tuple(tenant for tenant in tenants if tenant is not None)

    def _read_tenant(self, name: str, table: Any) -> Tenant | None:
        if not isinstance(table, dict):
            self._add_problem("must be a table: [tenants.NAME]", name)
            return None
        values = dict(table)
        if "keys" not in values:
            self._add_problem('needs keys = ["env:NAME"], or keys = [] where nobody may call', name)
        keys, files = self._read_keys(name, values.pop("keys", []))
        budgets = self._read_budgets(name, values.pop("budgets", {}))
        self._resolve_webhook_url(name, values)
        for reserved in ("id", "key_files"):
            if values.pop(reserved, None) is not None:
                self._add_problem("is not a setting of a tenant", name, reserved)
        return self._construct(
            lambda: Tenant(id=name, keys=keys, key_files=files, budgets=budgets, **values), name
        )

    def _resolve_webhook_url(self, tenant: str, values: dict[str, Any]) -> None:
        """A webhook URL may hold a secret: then it is a reference, like keys."""
        reference = values.get("webhook_url")
        if isinstance(reference, str) and reference.startswith(("env:", "file:")):
            text, _, error = self._resolve(reference)
            values["webhook_url"] = text or ""
            if text is None:
                self._add_problem(error, tenant, "webhook_url")

    def _read_keys(
        self, tenant: str, references: Any
    ) -> tuple[tuple[bytes, ...], tuple[Path, ...]]:
        if not isinstance(references, list) or not all(
            isinstance(item, str) for item in references
        ):
            self._add_problem("must be a list of texts", tenant, "keys")
            return (), ()
        digests: list[bytes] = []
        files: list[Path] = []
        for number, reference in enumerate(references, 1):
            text: str | None = reference
            if not reference.casefold().startswith("sha256:"):
                text, path, problem = self._resolve(reference)
                if path is not None:
                    files.append(path)
                if text is None:
                    self._add_problem(f"entry {number} {problem}", tenant, "keys")
                    continue
            try:
                digest = parse_key_digest(text or "")
            except ValueError as error:
                self._add_problem(f"entry {number} {error}", tenant, "keys")
                continue
            if owner := self._owners.setdefault(digest, tenant):
                if owner != tenant or digest in digests:
                    self._add_problem(f"entry {number} is a key of {owner} already", tenant, "keys")
                digests.append(digest)
        return tuple(digests), tuple(files)

    def _read_budgets(self, tenant: str, tables: Any) -> tuple[Budget, ...]:
        if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
            self._add_problem("holds a table for each budget: [tenants.NAME.budgets.NAME]", tenant)
            return ()
        budgets = [self._read_budget(tenant, name, table) for name, table in tables.items()]
        return tuple(budget for budget in budgets if budget is not None)

    def _read_budget(self, tenant: str, name: str, table: Mapping[str, Any]) -> Budget | None:
        if "name" in table:
            self._add_problem("is not a setting of a budget", tenant, "budgets", name, "name")
            return None
        return self._construct(lambda: Budget(name=name, **table), tenant, "budgets", name)

    def _construct(self, make: Callable[[], Checked], *keys: str) -> Checked | None:
        """The result of `make`, or None with its validation errors recorded."""
        try:
            return make()
        except ValidationError as error:
            for path, kind, message in validation_problems(error):
                key = path[0] if path else ""
                if kind == "missing":
                    self._add_problem(f"needs {key}", *keys)
                elif key in {"id", "name"}:
                    self._add_problem(_NAME_RULE, *keys)
                else:
                    self._add_problem(message, *keys, key)
        return None

    def _add_problem(self, message: str, *keys: str) -> None:
        path = (TENANTS_SECTION, *keys)
        self.problems.append(ConfigProblem(self._file.location(*path), ".".join(path), message))
