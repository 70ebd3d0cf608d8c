"""Parser of the `[tenants.…]` tables of the file; errors name the line."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from mediagate_server.config.file import ConfigFile, ConfigProblem
from mediagate_server.config.tenants import Budget, Tenant, parse_key_digest

SECTION: Final = "tenants"

Checked = TypeVar("Checked")

Resolve = Callable[[str], tuple[str | None, Path | None, str]]
"""Resolves `env:` or `file:` to the text, the file if it is one, and the error if there is none."""


class TenantTableReader:
    """Parser of the tenants' tables. `problems` has the errors; with any, no tenant is to be
    trusted.
    """

    def __init__(self, file: ConfigFile, resolve: Resolve) -> None:
        self._file = file
        self._resolve = resolve
        self._owners: dict[bytes, str] = {}
        self.problems: list[ConfigProblem] = []

    def read(self) -> tuple[Tenant, ...]:
        """Parse all tenants, in the order of the file."""
        tables = self._file.document[SECTION]
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
        budgets: list[Budget] = []
        for name, table in tables.items():
            budget = self._read_budget(tenant, name, table)
            if budget is not None:
                budgets.append(budget)
        return tuple(budgets)

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
            for problem in error.errors(include_url=False, include_input=False):
                key = str(problem["loc"][0]) if problem["loc"] else ""
                message = problem["msg"].removeprefix("Value error, ")
                if problem["type"] == "missing":
                    self._add_problem(f"needs {key}", *keys)
                elif key in {"id", "name"}:
                    message = "must be 1 to 63 of a-z, 0-9, - and _, a letter or digit first"
                    self._add_problem(message, *keys)
                else:
                    self._add_problem(message, *keys, key)
        return None

    def _add_problem(self, message: str, *keys: str) -> None:
        path = (SECTION, *keys)
        self.problems.append(ConfigProblem(self._file.location(*path), ".".join(path), message))
