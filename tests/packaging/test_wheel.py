"""The wheel: what is in it, what it asks for, and that it works with nothing else around it."""

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest

from tests.server_process import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
ROOTS = {
    "mediagate": "generated/python",
    "mediagate_cli": "server",
    "mediagate_client": "clients/python",
    "mediagate_sandbox": "server",
    "mediagate_server": "server",
}
LIGHT = {"googleapis-common-protos", "grpcio", "protobuf"}
# Brought by those three, or by the environment itself.
ALONG = {"mediagate", "pip", "setuptools", "typing-extensions", "typing_extensions"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def outside(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a clean environment with the wheel, without extras."""
    folder = tmp_path_factory.mktemp("outside")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    run(str(python), "-m", "pip", "install", "-q", "-c", str(constraints), str(wheel))
    return python


def run(*command: str, cwd: Path = ROOT) -> str:
    """Runs a program with nothing of pytest's own environment on its path."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    ran = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{' '.join(command)}:\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    """Everything in the source roots is in the wheel, data files too, and nothing else is."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT / root))
        for package, root in ROOTS.items()
        for path in (ROOT / root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == expected
    assert {"mediagate/py.typed", "mediagate_client/py.typed"} <= packed


def test_the_wheel_has_few_dependencies(wheel: Path) -> None:
    """Without extras it depends on three packages; whoever installs only the client has no more."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (
            file_name
            for file_name in archive.namelist()
            if file_name.endswith(".dist-info/METADATA")
        )
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    plain = [
        requirement
        for requirement in metadata.get_all("Requires-Dist", [])
        if "extra ==" not in requirement
    ]
    assert {re.split(r"[<>=~! ]", requirement)[0] for requirement in plain} == LIGHT
    assert {"server", "sandbox", "cli"} <= set(metadata.get_all("Provides-Extra", []))
    of_sandbox = [
        requirement
        for requirement in metadata.get_all("Requires-Dist", [])
        if "'sandbox'" in requirement
    ]
    # Its command needs them: the test below, which takes longer, runs it.
    assert {"rich", "typer"} <= {
        re.split(r"[<>=~! ]", requirement)[0] for requirement in of_sandbox
    }


@pytest.mark.timeout(300)
def test_the_installed_client_calls_a_server(
    outside: Path, server_process: ServerProcess, tmp_path: Path
) -> None:
    """Stubs and client import and call a running server with nothing of the server's installed."""
    caller = tmp_path / "installed_client.py"
    caller.write_bytes((Path(__file__).parent / "installed_client.py").read_bytes())
    said: dict[str, Any] = json.loads(
        run(str(outside), str(caller), server_process.address, cwd=tmp_path)
    )

    assert set(said["installed"]) - ALONG == LIGHT
    assert not {"mediagate_server", "mediagate_sandbox", "mediagate_cli"} & set(said["loaded"])
    assert said["home"].startswith(str(outside.parent.parent))
    assert {"text_pb2", "text_pb2_grpc", "admin_pb2_grpc", "errors_pb2"} <= set(said["stubs"])

    assert len(said["pieces"]) > 3
    assert said["image_uri"].startswith("http")
    assert said["image_cost"] > 0
    assert said["refusal"] == "InvalidRequest"


@pytest.mark.faults_full
@pytest.mark.timeout(300)
def test_the_sandbox_extra_has_its_command_and_its_fixture(wheel: Path, tmp_path: Path) -> None:
    """And says what is missing for a command that needs more."""
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    constraints = ROOT / "constraints.txt"
    packages = (f"{wheel}[sandbox]", "pytest")
    run(str(programs / "python"), "-m", "pip", "install", "-q", "-c", str(constraints), *packages)
    (tmp_path / "test_mine.py").write_text(
        "def test_mine(replicate_sandbox):\n"
        "    assert replicate_sandbox.bill()['predictions'] == 0\n"
    )
    run(str(programs / "python"), "-m", "pytest", "-q", "test_mine.py", cwd=tmp_path)
    mediagate = str(programs / "mediagate")
    assert "--time-scale" in run(mediagate, "sandbox", "--help", cwd=tmp_path)
    process = subprocess.Popen(
        [mediagate, "sandbox", "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        assert "The sandbox answers at http://127.0.0.1:" in process.stderr.readline()
        process.terminate()
    refused = subprocess.run([mediagate, "serve"], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "pip install 'mediagate[cli,server,sandbox]'" in refused.stderr
