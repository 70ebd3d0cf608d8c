"""Commands by a generation's id, and where outputs are saved: a real server on the sandbox."""

import json
import re
from pathlib import Path

import pytest

from mediagate.v1.modality_pb2 import MODALITY_TEXT, MODALITY_VIDEO
from mediagate_client import Client
from tests.sandbox_process import AT_ONCE, UNLIMITED, running_sandbox
from tests.server_process import ServerProcess, running_server

from .terminal_process import shell

# Each starts many processes, on a machine that may be busy.
pytestmark = pytest.mark.timeout(180)
PICTURE = "mediagate image cat --size 64x64"


def test_from_the_start_to_the_erasure(server_process: ServerProcess, tmp_path: Path) -> None:
    """What one command begins the others show, wait for, save and erase."""

    def run(script: str) -> str:
        done = shell(tmp_path, server_process.address, script)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    label = "--label case=start-to-erasure"
    generation = json.loads(run(f"mediagate text hi --max-tokens 20 --json {label}"))["generation"]
    generation_id = generation["id"]
    assert re.fullmatch(r"0\.\d+", generation["cost"]["usd"])
    assert "nanos" not in json.dumps(generation)

    table = run(f"mediagate list {label} --state succeeded --modality text")
    assert f"${generation['cost']['usd']} settled" in table
    assert "(sandbox)" in table
    [listed] = json.loads(run(f"mediagate list {label} --limit 1 --json"))
    assert listed["id"] == generation_id
    details = run(f"mediagate show {generation_id}")
    assert "state: succeeded" in details
    assert "made by: the sandbox: nothing was paid" in details
    assert run(f"mediagate wait {generation_id}") == "succeeded\n"
    assert run(f"mediagate watch {generation_id}") == "succeeded\n"
    assert run(f"mediagate cancel {generation_id}").startswith(
        f"{generation_id}: succeeded, cost $"
    )
    assert run(f"mediagate save {generation_id} -o answer.txt") == "answer.txt\n"
    assert (tmp_path / "answer.txt").read_text() == generation["text"]["text"]

    assert run(f"mediagate delete {generation_id}") == f"{generation_id}: erased\n"
    done = shell(tmp_path, server_process.address, f"mediagate save {generation_id} -o gone.txt")
    assert done.returncode == 1
    assert b"it was erased at" in done.stderr
    assert not (tmp_path / "gone.txt").exists()


def test_waiting_may_time_out(server_process: ServerProcess, tmp_path: Path) -> None:
    """With a code of its own; what is watched or waited for goes on, until it is cancelled."""
    script = """
        mediagate video 'rain [[hang]]' -o rain.mp4 2>said & pid=$!
        tail -n +1 -f --pid=$pid said 2>/dev/null | grep -q -m 1 accepted
        id=$(grep -o 'gen_[0-9a-z]*' said | head -1)
        mediagate wait $id --for 0; echo code $?
        mediagate delete $id; echo code $?
        mediagate cancel gen_none $id; mediagate wait $id; echo code $?
        wait $pid; echo code $?
    """
    (tmp_path / "said").touch()
    done = shell(tmp_path, server_process.address, script)
    lines = done.stdout.decode().splitlines()
    assert [line for line in lines if "code" in line] == ["code 4", "code 1", "code 3", "code 3"]
    assert b"cost not settled yet, at most $" in done.stderr
    assert b"mediagate: gen_none: no such generation" in done.stderr
    assert b"must be of a generation that has come to its end" in done.stderr


@pytest.mark.parametrize("option", ["-o x.pdf", "-o link.pdf"])
def test_a_file_is_overwritten_only_with_force(
    server_process: ServerProcess, tmp_path: Path, option: str
) -> None:
    """Refused before anything is paid; a link stays one; another type than its name is named."""
    (tmp_path / "x.pdf").write_text("mine")
    (tmp_path / "link.pdf").symlink_to("x.pdf")
    done = shell(tmp_path, server_process.address, f"{PICTURE} {option}")
    assert (done.returncode, b"--force overwrites it" in done.stderr) == (2, True)
    assert b"accepted" not in done.stderr
    assert (tmp_path / "x.pdf").read_text() == "mine"
    done = shell(tmp_path, server_process.address, f"{PICTURE} {option} --force")
    assert done.returncode == 0, done.stderr
    assert re.search(rb"\.pdf is image/\w+, whatever its name says", done.stderr)
    assert (tmp_path / "x.pdf").stat().st_size > 100
    assert (tmp_path / "link.pdf").is_symlink()


def test_streams_devices_and_odd_names(server_process: ServerProcess, tmp_path: Path) -> None:
    """A device is written to, not replaced; one stream takes one output; any name will do."""
    script = rf"""
        {PICTURE} -o - --format png | head -c 4 | tail -c 3; echo
        {PICTURE} -o /dev/null; test -c /dev/null && echo device
        {PICTURE} -o /dev/full; echo code $?
        {PICTURE} -n 2 -o - | wc -c
        {PICTURE} -o "$(printf 'jos\xe9 \n.png')"
        {PICTURE} -o "$(printf %0250d 0).png" | wc -c
        {PICTURE} -o pipe.png; {PICTURE} -o sub/
        (ulimit -f 1; {PICTURE} -o full.png; echo code $?)
    """
    (tmp_path / "sub").mkdir()
    done = shell(tmp_path, server_process.address, script)
    lines = done.stdout.split(b"\n")
    assert lines[:4] == [b"PNG", b"device", b"code 3", b"0"]
    assert lines[4:7] == [b"jos\xe9 ", b".png", b"255"]
    assert lines[7:9] == [b"pipe.png", b"sub/cat.webp"]
    assert b"mediagate: /dev/full: No space left on device\n  `mediagate save gen_" in done.stderr
    assert lines[9] == b"code 3"
    assert b"mediagate: full.png: File too large\n  `mediagate save gen_" in done.stderr
    assert b"2 outputs do not go into one stream" in done.stderr


def test_a_substituted_model_is_named(server_process: ServerProcess, tmp_path: Path) -> None:
    """On stderr, with the reason."""
    with Client(server_process.address) as client:
        models = [model for model in client.models() if model.stands_in_for]
    text = next(model for model in models if model.modality == MODALITY_TEXT)
    video = next(model for model in models if model.modality == MODALITY_VIDEO)
    for model, command in ((text, "text hi --max-tokens 9"), (video, "video rain -o x.mp4")):
        name = model.stands_in_for[0].name
        done = shell(tmp_path, server_process.address, f"mediagate {command} -m '{name}'")
        assert done.returncode == 0
        assert f"  {model.slug} stands in for {name}: " in done.stderr.decode()


def test_a_wrong_key_names_its_setting(tmp_path: Path) -> None:
    """The caller's key by its variable, and the server's token for Replicate by its own."""
    (tmp_path / "gate.toml").write_text('[tenants.team]\nkeys = ["env:TEAM_KEY"]\n')
    with running_sandbox(tmp_path, *AT_ONCE, *UNLIMITED, "--token", "r8_right") as sandbox:
        variables = {
            "MEDIAGATE_CONFIG": str(tmp_path / "gate.toml"),
            "MEDIAGATE_UPSTREAM_URL": sandbox.url,
            "REPLICATE_API_TOKEN": "r8_wrong",
            "TEAM_KEY": "a-key-of-sixteen-characters",
        }
        with running_server(tmp_path, **variables) as server:
            script = """
                mediagate list; mediagate list --api-key wrong
                export MEDIAGATE_API_KEY=a-key-of-sixteen-characters
                mediagate list && mediagate text hi --max-tokens 9
            """
            said = shell(tmp_path, server.address, script).stderr.decode().splitlines()
    assert "(KEY_MISSING); look at MEDIAGATE_API_KEY, or --api-key" in said[0]
    assert "(KEY_INVALID); look at MEDIAGATE_API_KEY, or --api-key" in said[1]
    assert any("look at REPLICATE_API_TOKEN of the server" in line for line in said)
