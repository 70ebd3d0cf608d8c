"""Tenants in the file: what is read, what is wrong by its line, and what a reload may not do."""

import hashlib
from decimal import Decimal
from pathlib import Path

import pytest

from mediagate_server.api.validation.constraint_types import Labels
from mediagate_server.config import Budget, ConfigError, Configuration, FileWatch, load_settings

KEY = "acme-key-0123456789"
OTHER = "other-key-0123456789"

GOOD = """
[server]
grpc_address = "0.0.0.0:50051"
[tenants.acme]
keys = ["env:ACME_KEY", "file:acme.key", "sha256:{digest}"]
admin = true
requests_per_minute = 60
max_in_flight = 3
store_inputs = "redacted"
[tenants.acme.budgets.monthly]
period = "month"
limit_usd = "100.05"
[tenants.acme.budgets.search]
period = "day"
limit_usd = 2
label = "team=search=x"
shadow = true
[tenants.quiet]
keys = []
"""


def digest(key: str) -> bytes:
    """As it is held."""
    return hashlib.sha256(key.encode()).digest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with two tenants."""
    (tmp_path / "acme.key").write_text(f"{OTHER}\n")
    path = tmp_path / "gate.toml"
    path.write_text(GOOD.format(digest=digest("third").hex()))
    return path


def test_tenants_of_the_file(path: Path) -> None:
    """Keys as digests, budgets in nano-dollars, the file of a key remembered."""
    settings = load_settings(path, {"ACME_KEY": KEY})
    acme, quiet = settings.tenants
    assert acme.keys == (digest(KEY), digest(OTHER), digest("third"))
    assert acme.key_files == (path.parent / "acme.key",)
    assert (acme.admin, acme.requests_per_minute, acme.max_in_flight) == (True, 60, 3)
    assert acme.store_inputs == "redacted"
    assert acme.budgets == (
        Budget(name="monthly", period="month", limit_usd=Decimal("100.05")),
        Budget(
            name="search",
            period="day",
            limit_usd=Decimal(2),
            label="team=search=x",  # type: ignore[arg-type]
            shadow=True,
        ),
    )
    assert [budget.limit_nanos for budget in acme.budgets] == [100_050_000_000, 2_000_000_000]
    assert acme.budgets[1].label == ("team", "search=x")
    assert (quiet.id, quiet.keys, quiet.admin, quiet.store_inputs) == ("quiet", (), False, None)
    assert KEY not in repr(settings)
    settings.check_exposure()


def test_a_reference_may_contain_a_digest(path: Path) -> None:
    """So that the key itself is nowhere on the server's machine."""
    settings = load_settings(path, {"ACME_KEY": f"sha256:{digest(KEY).hex()}"})
    assert settings.tenants[0].keys[0] == digest(KEY)


@pytest.mark.parametrize(
    "label",
    ["team=search", "t=", "0_.-=x", f"{'k' * 63}={'é' * 128}", "team= with spaces = and words "],
)
def test_budget_labels_match_request_labels(path: Path, label: str) -> None:
    """To the last character of the contract's rule, as the validation of requests has it."""
    text = path.read_text().replace('"team=search=x"', f'"{label}"')
    path.write_text(text)
    parsed_label = load_settings(path, {"ACME_KEY": KEY}).tenants[0].budgets[1].label
    key, _, value = label.partition("=")
    assert parsed_label == (key, value)
    assert Labels().entry_violation(key, value) is None


ACME = '[tenants.acme]\nkeys = ["env:ACME_KEY"]\n'
BUDGET = f"{ACME}[tenants.acme.budgets.b]\nperiod = 'day'\n"
WRONG = {
    "a key itself": (f'[tenants.a]\nkeys = ["{KEY}"]', 2, "does not belong into this file"),
    "a variable that is not set": ('[tenants.a]\nkeys = ["env:NOPE"]', 2, "NOPE, which is not set"),
    "a file that is not there": ('[tenants.a]\nkeys = ["file:nope"]', 2, "cannot be read"),
    "half a digest": ('[tenants.a]\nkeys = ["sha256:abcd"]', 2, "64 hexadecimal digits"),
    "a short key": ('[tenants.a]\nkeys = ["env:SHORT"]', 2, "16 to 512 characters"),
    "a key with a space": ('[tenants.a]\nkeys = ["env:SPACED"]', 2, "no key has"),
    "a key of another": (f'{ACME}[tenants.b]\nkeys = ["env:ACME_KEY"]', 4, "a key of acme already"),
    "a key twice": ('[tenants.a]\nkeys = ["env:ACME_KEY", "env:ACME_KEY"]', 2, "of a already"),
    "keys that are no list": ('[tenants.a]\nkeys = "env:ACME_KEY"', 2, "list of texts"),
    "a limit that nothing holds": (f"{ACME}max_in_flight = {10**30}", 3, "1000000000"),
    "no keys": ("[tenants.a]\nadmin = true", 1, "needs keys"),
    "a name": ("[tenants.Acme]\nkeys = []", 1, "must be 1 to 63 of a-z"),
    "no table": ("[tenants]\nacme = 3", 2, "must be a table"),
    "a limit": (f"{ACME}max_in_flight = -1", 3, "greater than or equal to 0"),
    "inputs": (f"{ACME}store_inputs = 'all'", 3, "'none', 'redacted' or 'full'"),
    "an unknown setting": (f"{ACME}nonsense = 1", 3, "not permitted"),
    "a setting of ours": (f"{ACME}key_files = ['x']", 3, "is not a setting"),
    "no limit": (BUDGET, 3, "needs limit_usd"),
    "a float": (f"{BUDGET}limit_usd = 1.5", 5, "dollars as text"),
    "a word": (f"{BUDGET}limit_usd = 'much'", 5, "dollars as text"),
    "less than nothing": (f"{BUDGET}limit_usd = '-1'", 5, "must be from 0"),
    "too much": (f"{BUDGET}limit_usd = '1e30'", 5, "must be from 0"),
    "not a number": (f"{BUDGET}limit_usd = 'nan'", 5, "must be from 0"),
    "parts of a nano": (f"{BUDGET}limit_usd = '0.0000000001'", 5, "nine digits"),
    "a label": (f"{BUDGET}limit_usd = 1\nlabel = 'team'", 6, "KEY=VALUE"),
    "spaces around =": (f"{BUDGET}limit_usd = 1\nlabel = 'team = x'", 6, "a key of 1 to 63"),
    "a label's capital": (f"{BUDGET}limit_usd = 1\nlabel = 'Team=x'", 6, "a key of 1 to 63"),
    "a label's space": (f"{BUDGET}limit_usd = 1\nlabel = 'a b=x'", 6, "a key of 1 to 63"),
    "a label's line": (f'{BUDGET}limit_usd = 1\nlabel = "a\\n=x"', 6, "a key of 1 to 63"),
    "a long key": (f"{BUDGET}limit_usd = 1\nlabel = '{'k' * 64}=x'", 6, "a key of 1 to 63"),
    "a long value": (f"{BUDGET}limit_usd = 1\nlabel = 'k={'v' * 129}'", 6, "at most 128"),
    "a period": (
        "[tenants.a]\nkeys = []\n[tenants.a.budgets.b]\nperiod = 'week'\nlimit_usd = 1",
        4,
        "'day', 'month' or 'total'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_problems_are_named_by_line(case: str, tmp_path: Path) -> None:
    """And never with a key in its words."""
    text, line, words = WRONG[case]
    path = tmp_path / "gate.toml"
    path.write_text(text)
    environ = {"ACME_KEY": KEY, "SHORT": "short", "SPACED": "a key with spaces"}
    with pytest.raises(ConfigError) as raised:
        load_settings(path, environ)
    (problem,) = str(raised.value).splitlines()
    assert problem.startswith(f"{path}, line {line}: tenants")
    assert words in problem
    if case != "a key itself":
        assert not any(secret in problem for secret in environ.values())


def test_keys_are_reloaded_at_run_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key's own file is watched like the configuration, and a reload takes what it holds."""
    monkeypatch.setenv("ACME_KEY", KEY)
    configuration = Configuration(load_settings(path), path)
    watch = FileWatch(configuration.files)
    (path.parent / "acme.key").write_text("a-new-key-0123456789")
    assert watch.changed()
    assert configuration.reload() == ()
    assert digest("a-new-key-0123456789") in configuration.current.tenants[0].keys
    assert digest(OTHER) not in configuration.current.tenants[0].keys


def test_a_reload_cannot_remove_the_last_tenant(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without tenants, as one is while it is being written, opens the server to nobody."""
    monkeypatch.setenv("ACME_KEY", KEY)
    configuration = Configuration(load_settings(path), path)
    before = configuration.current
    path.write_text("")
    with pytest.raises(ConfigError, match="no tenants any more"):
        configuration.reload()
    assert configuration.current is before


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0", "more than 0"),
        ("x", "dollars as text"),
        ("-1", "from 0"),
        ("1e-10", "nine digits"),
        ("1000001", "at most 1000000"),
    ],
)
def test_assumed_prices_must_be_positive(value: str, words: str) -> None:
    """More than nothing: what is not known is never zero."""
    with pytest.raises(ConfigError, match=words) as raised:
        load_settings(None, {"MEDIAGATE_ASSUME_UNKNOWN_USD": value})
    assert len(str(raised.value).splitlines()) == 1
    assumed_usd = load_settings(None, {"MEDIAGATE_ASSUME_UNKNOWN_USD": "0.05"}).assume_unknown_usd
    assert assumed_usd == Decimal("0.05")
