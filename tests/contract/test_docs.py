"""The project's own pages say what the code says."""

import re

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from mediagate_server.api.registration import UNIMPLEMENTED_METHODS
from mediagate_server.api.validation.value_checks import UNIMPLEMENTED_FIELDS
from mediagate_server.config.setting_names import FILE_ONLY, UNIMPLEMENTED, environment_variable
from mediagate_server.config.settings import Settings

from .conftest import ROOT

SETTINGS = (ROOT / "docs" / "settings.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
ROW = re.compile(r"^\| `((?:MEDIAGATE|REPLICATE)_[A-Z_]+)` \| (.*?) \|", re.MULTILINE)


def test_every_setting_is_listed() -> None:
    """The table has a row for each setting that does something, and names the others below it."""
    working = {
        environment_variable(name)
        for name in Settings.model_fields.keys() - UNIMPLEMENTED - FILE_ONLY
    }
    assert {name for name, _ in ROW.findall(SETTINGS)} == working | {"MEDIAGATE_CONFIG"}
    idle = SETTINGS[SETTINGS.index("Not built yet, so") :].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", idle)) == {
        environment_variable(name) for name in UNIMPLEMENTED
    }


def test_defaults_are_stated() -> None:
    """A default in the table is the default in force."""
    stated = {name: text.strip("` ") for name, text in ROW.findall(SETTINGS)}
    for name, field in Settings.model_fields.items():
        if name in UNIMPLEMENTED or field.default in (None, "", ()):
            continue
        default = field.default
        if isinstance(default, bool):
            default = str(default).lower()
        elif isinstance(default, float):
            default = int(default)
        assert stated[environment_variable(name)] == str(default), name


PAGES = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
    *("clients/python/README.md", "server/mediagate_sandbox/README.md"),
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")),
)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Every link to another of our own files, and every anchor, is there."""
    text = (ROOT / page).read_text()
    for target, anchor in re.findall(r"\]\(([^):#]*)(#[^)]*)?\)", text):
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor[1:] in {title.lower().replace(" ", "-") for title in titles}


def test_the_readme_leads_to_every_page() -> None:
    """What was too long for it is found from it."""
    readme = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{page.name})" in readme


@pytest.mark.parametrize("method", sorted(UNIMPLEMENTED_METHODS))
def test_changelog_lists_what_is_not_built(method: str) -> None:
    """Every rpc that answers NOT_IMPLEMENTED is in the changelog, under its service."""
    service, _, name = method.removeprefix("/mediagate.v1.").partition("/")
    (line,) = (one for one in CHANGELOG.splitlines() if one.startswith(f"- {service}:"))
    assert re.search(rf"\b{name}\b", line)


def test_changelog_lists_fields_that_are_not_built() -> None:
    """So is every field."""
    for message, names in UNIMPLEMENTED_FIELDS.items():
        for name in names:
            assert re.search(rf"\b{name}\b", CHANGELOG), f"{message}.{name}"


def test_changelog_lists_nothing_else(contract: list[FileDescriptorProto]) -> None:
    """An rpc that is built is not in that list any more."""
    built = {
        f"{service.name}: {method.name}"
        for file in contract
        for service in file.service
        for method in service.method
        if f"/mediagate.v1.{service.name}/{method.name}" not in UNIMPLEMENTED_METHODS
    }
    assert built
    for line in CHANGELOG.splitlines():
        if found := re.match(r"- (\w+Service): (.*)", line):
            for name in re.findall(r"\w+", found[2]):
                assert f"{found[1]}: {name}" not in built
