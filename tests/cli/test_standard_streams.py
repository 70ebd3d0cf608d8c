"""Standard streams that are closed, full, gone or no text: a line, a code, and nothing is lost."""

import re
from pathlib import Path

import pytest

from tests.server_process import ServerProcess

from .terminal_process import ASCII, LATIN_1, UTF_8, shell

# Each starts many processes, on a machine that may be busy.
pytestmark = pytest.mark.timeout(180)
TEXT = "mediagate text hi --max-tokens 20"
ANSWER = "[sandbox meta/meta-llama-3-70b-instruct] You asked:"


@pytest.mark.parametrize(
    ("script", "variables", "code", "line"),
    [
        (f"{TEXT} >&-", UTF_8, 2, "standard output is closed"),
        ("mediagate check hi >&-", UTF_8, 2, "standard output is closed"),
        ("mediagate text - <&-", UTF_8, 2, "standard input is closed"),
        ("mediagate text - </dev/null", UTF_8, 2, "standard input is empty"),
        (r"printf 'jos\xe9' | mediagate text -", UTF_8, 2, "not a text in UTF-8 (byte 3)"),
        (r"mediagate text $(printf 'jos\xe9')", UTF_8, 2, "not a text in UTF-8 (byte 3)"),
        (r"mediagate text $(printf 'jos\xe9')", ASCII, 2, "not a text in UTF-8 (byte 3)"),
        (r"mediagate text x --label a=$(printf '\xe9')", UTF_8, 2, "--label: it is not a text"),
        (r"mediagate text x --system $(printf '\xe9')", UTF_8, 2, "--system-prompt: it is not"),
        (r"printf 'a\0b' | mediagate text -", UTF_8, 1, "must not hold the character NUL"),
        ("head -c 9999999 /dev/zero | mediagate text -", UTF_8, 2, "is over 4,000,000 bytes"),
        ("mediagate models >&-", UTF_8, 3, "standard output: Bad file descriptor"),
        ("mediagate models >/dev/full", UTF_8, 3, "standard output: No space left"),
        ("mediagate list --json >/dev/full", UTF_8, 3, "standard output: No space left"),
        ("mediagate --help >/dev/full", UTF_8, 3, "standard output: No space left"),
        ("mediagate txt hi", UTF_8, 2, "Did you mean 'text'?"),
        ("mediagate text hi -m gpt-4o-min", UTF_8, 1, "did you mean"),
        ("mediagate text hi -m flux-schnell", UTF_8, 1, "'flux-schnell'; it makes image"),
        ("mediagate text hi -m flux-schnel", UTF_8, 1, "did you mean flux-schnell"),
        (r"mediagate show $(printf '\xe9')", UTF_8, 1, "(INVALID_REQUEST, model)"),
        ("mkdir x; cd x; rmdir ../x; mediagate image x", UTF_8, 2, "the working folder: No such"),
        ("mediagate demo --out /dev/null/x", UTF_8, 2, "/dev/null/x: Not a directory"),
        ("mediagate show flux-schnel", UTF_8, 1, "did you mean flux-schnell"),
        ("mediagate text hi --max-cost 0.0000001", UTF_8, 1, "maximum $0.00"),
        ("mediagate text hi --when-unconfirmed next", UTF_8, 1, "where --max-cost is set"),
        ("mediagate text hi --api-key $'k\\n'", UTF_8, 2, "--api-key (MEDIAGATE_API_KEY)"),
        ("mediagate text hi --target ''", UTF_8, 2, "--target (MEDIAGATE_TARGET)"),
        ("mediagate show gen_none", UTF_8, 1, "no such generation"),
        ("mediagate image x -o none/x.png", UTF_8, 2, "there is no folder none"),
        ("mediagate image x -o $(printf %0300d 0)", UTF_8, 2, "File name too long"),
        ("mediagate image x -o ''", UTF_8, 2, "--output: it is empty"),
    ],
)
def test_failures_are_one_line(
    server_process: ServerProcess,
    tmp_path: Path,
    script: str,
    variables: dict[str, str],
    code: int,
    line: str,
) -> None:
    """Before anything is paid, on stderr, without a traceback."""
    done = shell(tmp_path, server_process.address, script, variables)
    said = done.stderr.decode()
    assert (done.returncode, said.count("\n")) == (code, 1), said
    assert said.startswith("mediagate: ")
    assert line in said
    assert list(tmp_path.iterdir()) == []


def test_a_text_on_a_full_disk_can_be_read_by_id(
    server_process: ServerProcess, tmp_path: Path
) -> None:
    """The run goes on; stderr says the id, and the command that prints it."""
    done = shell(tmp_path, server_process.address, f"{TEXT} >/dev/full")
    said = done.stderr.decode()
    assert done.returncode == 3
    assert "standard output: No space left on device; the run goes on" in said
    [command] = re.findall(r"`(mediagate save gen_\w+ -o -)`", said)
    assert "20 tokens" in said
    saved = shell(tmp_path, server_process.address, command)
    assert saved.stdout.decode().startswith(ANSWER)


def test_a_closed_reader_ends_the_run(server_process: ServerProcess, tmp_path: Path) -> None:
    """And what it wrote until then stays."""
    script = (
        "set -o pipefail; mediagate text 'Tell me all. [[tokens=4000 interval_ms=10]]' | head -c 20"
    )
    done = shell(tmp_path, server_process.address, script)
    assert (done.returncode, done.stdout.decode()) == (141, ANSWER[:20])
    [generation_id] = set(re.findall(r"gen_\w+", done.stderr.decode()))
    assert (
        shell(tmp_path, server_process.address, f"mediagate wait {generation_id}").returncode == 3
    )
    saved = shell(tmp_path, server_process.address, f"mediagate save {generation_id} -o -")
    assert saved.stdout.decode().startswith(ANSWER[:20])


@pytest.mark.parametrize("stream", ["2>&-", "2>/dev/full", "2> >(true)", "<&-"])
def test_a_text_needs_no_stderr_and_no_stdin(
    server_process: ServerProcess, tmp_path: Path, stream: str
) -> None:
    """Whatever became of the other streams."""
    done = shell(tmp_path, server_process.address, f"{TEXT} {stream}")
    assert done.returncode == 0
    assert done.stdout.decode().startswith(ANSWER)


def test_a_full_non_blocking_pipe_is_waited_for(
    server_process: ServerProcess, tmp_path: Path
) -> None:
    """As other programs leave it behind."""
    script = f"""
        mkfifo full && exec 9<>full && head -c 65536 /dev/zero >&9
        python3 -c 'import os; os.set_blocking(9, False)'
        {{ {TEXT} --json || echo code $?; }} >&9 2>said & pid=$!
        {{ exec 9>&-; cat full | tr -d '\\0' >text; }} & reader=$!
        wait $pid; exec 9>&-; wait $reader; cat said >&2
    """
    done = shell(tmp_path, server_process.address, script)
    assert done.stderr.decode().count("\n") == 1, done.stderr
    assert ANSWER in (tmp_path / "text").read_text()


def test_text_from_stdin_in_the_terminals_encoding(
    server_process: ServerProcess, tmp_path: Path
) -> None:
    """UTF-8 with or without a mark at its begin, else as the terminal has it; lines of Windows."""
    for script, variables in (
        (r"printf '\xef\xbb\xbfjos\xc3\xa9\r\nau lait\r\n'", UTF_8),
        (r"printf 'jos\xe9\r\nau lait'", LATIN_1),
    ):
        done = shell(
            tmp_path,
            server_process.address,
            f"{script} | mediagate text - --max-tokens 20 --json",
            variables,
        )
        assert done.returncode == 0, done.stderr
        assert rb"au lait" in done.stdout
        assert b"\\r" not in done.stdout
        assert "josé".encode() in done.stdout or rb"jos\u00e9" in done.stdout
