"""Writes every language's stubs from `protos/` into `generated/`, or checks that they are fresh.

    python scripts/generate.py                   write them all
    python scripts/generate.py --check           write them elsewhere and compare
    python scripts/generate.py --only typescript

protoc comes with grpcio-tools; the plugins of the other languages are installed, at the versions
pinned below, into `.build/`. The googleapis files that the contract imports are read from the
installed googleapis-common-protos, so that none of them is copied into this tree.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import google.api

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GENERATED = ROOT / "generated"
BUILD = ROOT / ".build" / "plugins"
GOOGLEAPIS = Path(next(iter(google.api.__path__))).parent.parent

INSTALL_SECONDS = 240

PROTOC_GEN_ES = "2.13.0"
PROTOC_GEN_GO = "v1.36.12"
PROTOC_GEN_GO_GRPC = "v1.6.2"

# What the contract imports, and the error details that its statuses carry. Python and Go have
# published packages for them; TypeScript has none, so its stubs are written beside ours.
GOOGLE_PROTOS = (
    "google/api/field_behavior.proto",
    "google/rpc/code.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
)


class ToolMissingError(Exception):
    """A language's generator cannot be had on this machine; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Language:
    """How one language's stubs are written.

    `owned` are the folders and files below the language's folder that the generator writes; all
    else there (go.mod, package.json) is written by hand and left alone.
    """

    name: str
    owned: tuple[str, ...]
    write: Callable[[Path], None]


def main() -> int:
    """Writes or checks, and returns the process's exit status."""
    parser = argparse.ArgumentParser(description="Write or check the stubs of every language.")
    parser.add_argument("--check", action="store_true", help="compare, change nothing")
    parser.add_argument("--only", choices=[language.name for language in LANGUAGES])
    arguments = parser.parse_args()
    chosen = [language for language in LANGUAGES if arguments.only in (None, language.name)]
    act = check if arguments.check else write
    skipped_is_failure = os.environ.get("MEDIAGATE_REQUIRE_ALL") == "1"
    good = True
    for language in chosen:
        try:
            good &= act(language)
        except ToolMissingError as missing:
            print(f"{language.name}: SKIPPED: {missing}")
            good &= not skipped_is_failure
    return 0 if good else 1


def write(language: Language) -> bool:
    """Replaces what the generator owns of one language."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        language.write(fresh)
        target = GENERATED / language.name
        target.mkdir(parents=True, exist_ok=True)
        for owned in language.owned:
            shutil.rmtree(target / owned, ignore_errors=True)
            shutil.copytree(fresh / owned, target / owned)
    print(f"{language.name}: written")
    return True


def check(language: Language) -> bool:
    """Says whether one language's committed stubs are what the contract gives."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        language.write(fresh)
        stale = sorted(differences(fresh, GENERATED / language.name, language.owned))
    for name in stale:
        print(f"{language.name}: stale: {name}")
    print(f"{language.name}: {'STALE, run `make generate`' if stale else 'fresh'}")
    return not stale


def differences(fresh: Path, committed: Path, owned: Iterable[str]) -> set[str]:
    """The files that only one side has, or that differ."""
    changed: set[str] = set()
    for folder in owned:
        mine = files_below(fresh, folder)
        theirs = files_below(committed, folder)
        changed |= mine ^ theirs
        both = sorted(mine & theirs)
        _, unequal, unreadable = filecmp.cmpfiles(fresh, committed, both, shallow=False)
        changed |= {*unequal, *unreadable}
    return changed


def files_below(root: Path, folder: str) -> set[str]:
    """The files below root/folder, as paths from root."""
    return {
        str(path.relative_to(root))
        for path in (root / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def contract() -> list[str]:
    """The contract's files, as protoc names them."""
    return sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))


def services() -> list[str]:
    """Those of them that define a service."""
    return [name for name in contract() if "\nservice " in (PROTOS / name).read_text()]


def protoc(*arguments: str) -> None:
    """Runs the protoc of grpcio-tools, which brings google/protobuf itself."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{GOOGLEAPIS}"]
    subprocess.run([*command, *arguments], check=True, cwd=ROOT)


def write_python(out: Path) -> None:
    """Modules for protobuf and gRPC with types for both, as a regular and typed package.

    Regular, with `__init__.py`: a namespace package would merge with any folder called `mediagate`
    on the path, `protos/mediagate` among them.
    """
    scripts = Path(sys.executable).parent
    protoc(
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--python_out={out}",
        f"--mypy_out=quiet:{out}",
        *contract(),
    )
    protoc(
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--grpc_python_out={out}",
        f"--mypy_grpc_out=quiet:{out}",
        *services(),
    )
    package = out / "mediagate"
    (package / "py.typed").touch()
    (package / "__init__.py").write_text(
        '"""The stubs of Mediagate\'s contract, written by `make generate`. Do not edit."""\n'
    )
    (package / "v1" / "__init__.py").write_text(
        '"""Version 1 of the contract: import its modules, such as `mediagate.v1.text_pb2`."""\n'
    )


def write_typescript(out: Path) -> None:
    """Sources for @bufbuild/protobuf, the googleapis ones among them."""
    plugin = npm_plugin("@bufbuild/protoc-gen-es", PROTOC_GEN_ES)
    protoc(
        f"--plugin=protoc-gen-es={plugin}",
        f"--es_out={out}",
        "--es_opt=target=ts,import_extension=js",
        *contract(),
        *GOOGLE_PROTOS,
    )


def write_go(out: Path) -> None:
    """Packages for google.golang.org/protobuf and google.golang.org/grpc."""
    messages = go_plugin("google.golang.org/protobuf/cmd/protoc-gen-go", PROTOC_GEN_GO)
    rpcs = go_plugin("google.golang.org/grpc/cmd/protoc-gen-go-grpc", PROTOC_GEN_GO_GRPC)
    protoc(
        f"--plugin=protoc-gen-go={messages}",
        f"--plugin=protoc-gen-go-grpc={rpcs}",
        f"--go_out={out}",
        "--go_opt=paths=source_relative",
        f"--go-grpc_out={out}",
        "--go-grpc_opt=paths=source_relative",
        *contract(),
    )


def npm_plugin(package: str, version: str) -> Path:
    """The path of a plugin from npm, installed first where it is not there yet."""
    name = package.rpartition("/")[2]
    folder = BUILD / f"{name}-{version}"
    plugin = folder / "node_modules" / ".bin" / name
    need("node")
    if not plugin.exists():
        folder.mkdir(parents=True, exist_ok=True)
        requirement = f"{package}@{version}"
        install(
            "npm", "install", "--prefix", str(folder), "--no-save", "--fetch-retries=1", requirement
        )
    return plugin


def go_plugin(package: str, version: str) -> Path:
    """The path of a plugin written in Go, installed first where it is not there yet."""
    name = package.rpartition("/")[2]
    folder = BUILD / f"{name}-{version}"
    if not (folder / name).exists():
        install("go", "install", f"{package}@{version}", GOBIN=str(folder))
    return folder / name


def need(tool: str) -> str:
    """The path of a program that must be on the machine."""
    path = shutil.which(tool)
    if path is None:
        message = f"{tool} is not on the PATH"
        raise ToolMissingError(message)
    return path


def install(tool: str, *arguments: str, **variables: str) -> None:
    """Runs an installer, quietly unless it fails."""
    try:
        ran = subprocess.run(
            [need(tool), *arguments],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        message = f"`{tool} {' '.join(arguments)}` took more than {INSTALL_SECONDS} s"
        raise ToolMissingError(message) from None
    if ran.returncode != 0:
        print(ran.stdout, file=sys.stderr)
        message = f"`{tool} {' '.join(arguments)}` failed, see above"
        raise ToolMissingError(message)


LANGUAGES = (
    Language("python", ("mediagate",), write_python),
    Language("typescript", ("mediagate", "google"), write_typescript),
    Language("go", ("mediagate",), write_go),
)

if __name__ == "__main__":
    sys.exit(main())
