"""The contract as descriptors, with the comments that only its sources carry."""

import subprocess
import sys
from pathlib import Path

import google.api
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def contract(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    """Every file of `mediagate.v1`, compiled from its source."""
    compiled = tmp_path_factory.mktemp("contract") / "contract.binpb"
    protos = ROOT / "protos"
    googleapis = Path(next(iter(google.api.__path__))).parent.parent
    names = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", f"-I{googleapis}"]
    options = ["--include_source_info", f"--descriptor_set_out={compiled}"]
    subprocess.run([*command, *options, *names], check=True)
    return list(FileDescriptorSet.FromString(compiled.read_bytes()).file)
