"""The project's own pages say what the code says."""

import re

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from mediagate_server.config.names import FILE_ONLY, NOT_BUILT, variable_of
from mediagate_server.config.settings import Settings
from mediagate_server.interceptors.inbound.validation.not_built import NOT_BUILT_FIELDS
from mediagate_server.services.unbuilt import NOT_BUILT_METHODS

from .conftest import ROOT

README = (ROOT / "README.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
ROW = re.compile(r"^\| `((?:MEDIAGATE|REPLICATE)_[A-Z_]+)` \| (.*?) \|", re.MULTILINE)


def test_readme_lists_every_setting() -> None:
    """The table has a row for each setting that does something, and names the others below it."""
    working = {variable_of(name) for name in Settings.model_fields.keys() - NOT_BUILT - FILE_ONLY}
    assert {name for name, _ in ROW.findall(README)} == working | {"MEDIAGATE_CONFIG"}
    idle = README[README.index("without effect yet:") :].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", idle)) == {variable_of(name) for name in NOT_BUILT}


def test_readme_states_the_defaults() -> None:
    """A default in the table is the default in force."""
    stated = {name: text.strip("` ") for name, text in ROW.findall(README)}
    for name, field in Settings.model_fields.items():
        if name in NOT_BUILT or field.default in (None, "", ()):
            continue
        default = field.default
        if isinstance(default, bool):
            default = str(default).lower()
        elif isinstance(default, float):
            default = int(default)
        assert stated[variable_of(name)] == str(default), name


@pytest.mark.parametrize("method", sorted(NOT_BUILT_METHODS))
def test_changelog_lists_what_is_not_built(method: str) -> None:
    """Every rpc that answers NOT_IMPLEMENTED is in the changelog, under its service."""
    service, _, name = method.removeprefix("/mediagate.v1.").partition("/")
    (line,) = (one for one in CHANGELOG.splitlines() if one.startswith(f"- {service}:"))
    assert re.search(rf"\b{name}\b", line)


def test_changelog_lists_fields_that_are_not_built() -> None:
    """So is every field."""
    for message, names in NOT_BUILT_FIELDS.items():
        for name in names:
            assert re.search(rf"\b{name}\b", CHANGELOG), f"{message}.{name}"


def test_changelog_lists_nothing_else(contract: list[FileDescriptorProto]) -> None:
    """An rpc that is built is not in that list any more."""
    built = {
        f"{service.name}: {method.name}"
        for file in contract
        for service in file.service
        for method in service.method
        if f"/mediagate.v1.{service.name}/{method.name}" not in NOT_BUILT_METHODS
    }
    assert built
    for line in CHANGELOG.splitlines():
        if found := re.match(r"- (\w+Service): (.*)", line):
            for name in re.findall(r"\w+", found[2]):
                assert f"{found[1]}: {name}" not in built
