"""The project's own pages say what the code says."""

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from mediagate_server.api.service_registration import UNIMPLEMENTED_METHODS
from mediagate_server.api.validation.field_type_checks import UNIMPLEMENTED_FIELDS
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


SERVER = ROOT / "server" / "mediagate_server"
PAGES = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
    *("clients/python/README.md", "server/mediagate_sandbox/README.md"),
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")),
    *sorted(str(page.relative_to(ROOT)) for page in SERVER.rglob("*.md")),
)
CLIENT = ROOT / "clients" / "python" / "mediagate_client"
OF_TODAY = tuple(page for page in PAGES if page != "CHANGELOG.md")
"""Pages that describe the tree as it is; the changelog also tells of what it was."""
FOLDERS = (ROOT, ROOT / "server", SERVER, CLIENT.parent, CLIENT)
SOURCES = ("server", "clients", "bench", "scripts", "protos")
SOURCE_SUFFIXES = (".go", ".md", ".py", ".sql", ".toml", ".ts")


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page: str) -> None:
    """Every link to another of our own files, and every anchor, is there."""
    text = (ROOT / page).read_text()
    for target, anchor in re.findall(r"\]\(([^):#]*)(#[^)]*)?\)", text):
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor[1:] in {title.lower().replace(" ", "-") for title in titles}


def named_paths(page: str) -> set[str]:
    """What a page names in backticks that is a path of ours, by its first folder or its suffix."""
    folders = (*FOLDERS, (ROOT / page).parent)
    ours = {entry.name for folder in folders for entry in folder.iterdir()}
    named = re.findall(r"`([\w*<>-][\w.*<>/-]*)`", (ROOT / page).read_text())
    return {
        path
        for path in named
        if (path.endswith(SOURCE_SUFFIXES) and not path.startswith("_"))
        or ("/" in path and path.split("/")[0] in ours)
        or (path.endswith("/") and "." not in path)
    }


def files_at(path: str, page: str) -> list[Path]:
    """The files at a path as pages write it: in a folder of ours, or anywhere if it is a name."""
    pattern = re.sub(r"<\w+>", "*", path)
    folders = (*FOLDERS, (ROOT / page).parent)
    matching_files = [file for folder in folders for file in folder.glob(pattern.rstrip("/"))]
    if matching_files or "/" in path:
        return matching_files
    return [
        file
        for top in ("server", "tests", "clients", "bench")
        for file in (ROOT / top).rglob(pattern)
    ]


@pytest.mark.parametrize("page", OF_TODAY)
def test_named_paths_exist(page: str) -> None:
    """Every path that a page names is there."""
    assert not [path for path in sorted(named_paths(page)) if not files_at(path, page)]


@pytest.mark.parametrize("page", OF_TODAY)
def test_names_beside_a_path_are_in_that_file(page: str) -> None:
    """So is a name that stands straight behind the path of a file."""
    missing = []
    text = (ROOT / page).read_text()
    for path, names in re.findall(r"`([\w./-]+\.(?:proto|py|toml))`((?:,? `\w+`)+)", text):
        files = files_at(path, page)
        words = {word for file in files for word in re.findall(r"\w+", file.read_text())}
        missing += [f"{path} {name}" for name in re.findall(r"\w+", names) if name not in words]
    assert not missing


@pytest.mark.parametrize(
    "page", ["docs/architecture.md", "server/mediagate_server/generations/README.md"]
)
def test_names_of_the_architecture_exist(page: str) -> None:
    """What these pages name in backticks is a word of the sources or of the contract."""
    words = {
        word
        for top in ("server", "clients/python", "protos")
        for file in (ROOT / top).rglob("*")
        if file.suffix in {".py", ".proto", ".toml"}
        for word in re.findall(r"\w+", file.read_text())
    }
    named = re.findall(r"`([A-Za-z_]\w+)`", (ROOT / page).read_text())
    words |= {entry.name for entry in (ROOT / "server").iterdir()}
    assert not [name for name in named if name.removesuffix("_total") not in words]


def test_the_architecture_lists_every_folder() -> None:
    """Each folder and file at the top of the server has its place in the table of rooms."""
    rooms = (
        (ROOT / "docs" / "architecture.md").read_text().split("## The rooms")[1].split("\n## ")[0]
    )
    rows = "".join(line for line in rooms.splitlines() if line.startswith("| `"))
    entries = {entry.name for entry in SERVER.iterdir() if not entry.name.startswith("_")}
    assert not [name for name in entries - {"py.typed"} if f"`{name}" not in rows]


def test_python_files_that_sources_name_exist() -> None:
    """Whatever a comment or docstring calls a file is one, wherever it is."""
    files = {file.name for top in ("tests", *SOURCES) for file in (ROOT / top).rglob("*.py")}
    missing = set()
    for file in (file for top in SOURCES for file in (ROOT / top).rglob("*")):
        if file.suffix in {".py", ".proto", ".sql", ".toml"} and "node_modules" not in file.parts:
            named = re.findall(r"(?<![\w/.*])(?:[\w-]+/)*([a-z_]\w*\.py)\b", file.read_text())
            missing |= {f"{file.relative_to(ROOT)}: {name}" for name in set(named) - files}
    assert not missing


def test_the_readme_of_generations_lists_its_files() -> None:
    """All of them, each below the name of its folder, and none that is not there."""
    room = SERVER / "generations"
    listed, folder = set(), Path()
    for line in (room / "README.md").read_text().split("```text")[1].split("```")[0].splitlines():
        if match := re.match(r"( *)([a-z_]+)(\.py|/) ", line):
            indent, name, suffix = match.groups()
            if suffix == "/":
                folder = Path(name)
            else:
                listed.add(str(folder / f"{name}.py") if indent else f"{name}.py")
    files = {str(file.relative_to(room)) for file in room.rglob("*.py")}
    assert listed == {file for file in files if not file.endswith("__init__.py")}


def test_the_readme_links_every_page() -> None:
    """What was too long for it is found from it."""
    readme = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{page.name})" in readme


@pytest.mark.parametrize("method", sorted(UNIMPLEMENTED_METHODS))
def test_changelog_lists_unimplemented_methods(method: str) -> None:
    """Every rpc that answers NOT_IMPLEMENTED is in the changelog, under its service."""
    service, _, name = method.removeprefix("/mediagate.v1.").partition("/")
    (line,) = (entry for entry in CHANGELOG.splitlines() if entry.startswith(f"- {service}:"))
    assert re.search(rf"\b{name}\b", line)


def test_changelog_lists_unimplemented_fields() -> None:
    """So is every field."""
    for message, names in UNIMPLEMENTED_FIELDS.items():
        for name in names:
            assert re.search(rf"\b{name}\b", CHANGELOG), f"{message}.{name}"


def test_changelog_lists_no_implemented_methods(contract: list[FileDescriptorProto]) -> None:
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
        if match := re.match(r"- (\w+Service): (.*)", line):
            for name in re.findall(r"\w+", match[2]):
                assert f"{match[1]}: {name}" not in built
