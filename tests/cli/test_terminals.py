"""Terminals of several encodings, interrupts, and logs: real processes on a real pty."""

import re
import signal
from pathlib import Path

import pytest

from tests.server_process import ServerProcess

from .terminal_process import (
    ASCII,
    CP1252,
    LATIN_1,
    UTF_8,
    restore_signals,
    server_variables,
    shell,
    terminal,
)

# Each starts many processes, on a machine that may be busy.
pytestmark = pytest.mark.timeout(180)
PROMPT = "naïve € Ж 🙂"
ID = re.compile(rb"gen_\w+")
ENDLESS = ("text", "Tell me all. [[hang_after=20]]")


@pytest.mark.parametrize(
    ("variables", "encoding", "expected"),
    [
        (UTF_8, "utf-8", PROMPT),
        (LATIN_1, "latin-1", r"naïve \u20ac \u0416 \U0001f642"),
        (CP1252, "cp1252", r"naïve € \u0416 \U0001f642"),
        (ASCII, "ascii", r"na\xefve \u20ac \u0416 \U0001f642"),
    ],
    ids=["utf-8", "latin-1", "cp1252", "ascii"],
)
def test_a_terminal_of_any_encoding_shows_every_text(
    server_process: ServerProcess,
    tmp_path: Path,
    variables: dict[str, str],
    encoding: str,
    expected: str,
) -> None:
    """What its encoding has not is escaped; nothing is lost, of the prompt neither."""
    arguments = ("text", PROMPT, "--max-tokens", "20")
    with terminal(tmp_path, server_process.address, *arguments, variables=variables) as running:
        assert running.finish() == 0
    text = running.output.decode(encoding)
    assert f'You asked: "{expected}"' in text
    [generation_id] = set(re.findall(r"gen_\w+", text))
    assert text.index(f"{generation_id}: accepted") < text.index("You asked")
    assert "from the sandbox: nothing was paid" in text
    saved = shell(tmp_path, server_process.address, f"mediagate save {generation_id} -o -")
    assert PROMPT in saved.stdout.decode()


@pytest.mark.parametrize("variables", [UTF_8, LATIN_1, ASCII], ids=["utf-8", "latin-1", "ascii"])
def test_progress_tables_and_help_in_a_plain_terminal(
    server_process: ServerProcess, tmp_path: Path, variables: dict[str, str]
) -> None:
    """Without colours where they are not wanted, without a home, one column wide."""
    plain = variables | {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "1"}
    for arguments in (("video", "rain", "-o", "rain.mp4", "--force"), ("models",), ("--help",)):
        with terminal(tmp_path, server_process.address, *arguments, variables=plain) as running:
            assert running.finish() == 0
        assert b"\x1b" not in running.output
    assert (tmp_path / "rain.mp4").stat().st_size > 0


def test_control_sequences_in_texts_are_escaped(
    server_process: ServerProcess, tmp_path: Path
) -> None:
    """A control sequence that a model repeats is shown, not carried out."""
    arguments = ("text", "clear \x1b[2J it", "--max-tokens", "20")
    with terminal(tmp_path, server_process.address, *arguments) as running:
        assert running.finish() == 0
    assert b"\x1b[2J" not in running.output
    assert rb"clear \x1b[2J it" in running.output


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupt_prints_the_id_the_cost_and_a_command(
    server_process: ServerProcess, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """What was begun is cancelled; what came until then can be had by id."""
    with terminal(tmp_path, server_process.address, *ENDLESS) as running:
        running.until(b"You asked")
        running.send(number)
        assert running.finish() == code
    [generation_id] = {match.decode() for match in ID.findall(running.output)}
    said = running.output.decode()
    assert re.search(rf"{generation_id}: \w+, cost ", said), said
    assert (
        f"`mediagate save {generation_id}`" in said or f"`mediagate wait {generation_id}`" in said
    )
    assert said.rstrip().endswith("mediagate: interrupted")
    ended = shell(tmp_path, server_process.address, f"mediagate wait {generation_id}")
    assert (ended.returncode, ended.stdout) == (3, b"cancelled\n")


def test_an_ignored_hangup_stays_ignored(server_process: ServerProcess, tmp_path: Path) -> None:
    """As `nohup` wants it."""

    def nohup() -> None:
        restore_signals()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    arguments = ("text", "hi", "--max-tokens", "60")
    with terminal(tmp_path, server_process.address, *arguments, prepare=nohup) as running:
        running.until(b"accepted")
        running.send(signal.SIGHUP)
        assert running.finish() == 0


@pytest.mark.parametrize(
    ("arguments", "rpc"),
    [("text 'Tell me all. [[hang_after=20]]'", ""), ("models --json", "ListModels")],
)
def test_an_interrupt_while_nobody_reads(
    server_process: ServerProcess, tmp_path: Path, arguments: str, rpc: str
) -> None:
    """A pager that pauses holds up neither the connection nor the end."""
    log, words = (server_process.output, rpc) if rpc else ("said", "accepted")
    script = f"""
        mkfifo full && exec 9<>full && head -c 65536 /dev/zero >&9
        come=$(wc -l <{log})
        tail -n +$((come + 1)) -f --pid=$$ {log} 2>/dev/null | grep -q -m 1 {words} & come=$!
        mediagate {arguments} >&9 2>>said & pid=$!
        wait $come
        kill -TERM $pid; wait $pid; echo code $?
    """
    (tmp_path / "said").touch()
    done = shell(tmp_path, server_process.address, script)
    assert b"code 143" in done.stdout
    assert "mediagate: interrupted" in (tmp_path / "said").read_text()


@pytest.mark.parametrize("words", [b"starting one", b"-- image"])
def test_an_interrupted_demo_leaves_no_server(tmp_path: Path, words: bytes) -> None:
    """Whether its own server is starting or serves: it is stopped, and its data removed."""
    (tmp_path / "temporary").mkdir()
    variables = UTF_8 | {"TMPDIR": str(tmp_path / "temporary")}
    with terminal(tmp_path, "127.0.0.1:1", "demo", variables=variables) as running:
        running.until(words)
        running.send(signal.SIGTERM)
        assert running.finish() == 143
    assert list((tmp_path / "temporary").iterdir()) == []


def test_logs_are_readable_on_a_terminal_and_json_elsewhere(tmp_path: Path) -> None:
    """Unless the setting says otherwise."""
    for log_format, begin in (
        ("auto", rb"\d\d:\d\d:\d\d INFO rpc method="),
        ("json", rb'\{"method"'),
    ):
        variables = server_variables(tmp_path / log_format, MEDIAGATE_LOG_FORMAT=log_format)
        with terminal(tmp_path, "", "serve", variables=variables) as serving:
            serving.until(b"Mediagate serves gRPC")
            address = variables["MEDIAGATE_GRPC_ADDRESS"]
            assert shell(tmp_path, address, "mediagate models").returncode == 0
            serving.until(b"ListModels")
            serving.send(signal.SIGTERM)
            assert serving.finish() == 0
        lines = [line for line in serving.output.splitlines() if b"ListModels" in line]
        assert re.match(begin, lines[0]), lines
