"""The command line in this process, against a scripted server and a server of finished files."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mediagate_cli.app import app
from tests.client.scripted_server import ScriptedServer, open_scripted_server

Mediagate = Callable[..., Result]
"""Runs `mediagate ARGUMENTS…` in an empty folder; `input` is its stdin."""

FILE = b"\x89PNG\r\n\x1a\n" + bytes(1192)


@pytest.fixture
def scripted_server() -> Iterator[ScriptedServer]:
    with open_scripted_server() as server:
        yield server


@pytest.fixture
def mediagate(
    scripted_server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDIAGATE_TARGET", scripted_server.target)
    monkeypatch.delenv("MEDIAGATE_API_KEY", raising=False)

    def run(*arguments: str, input: str | None = None) -> Result:  # noqa: A002 - typer's own name
        return CliRunner().invoke(app, list(arguments), input=input)

    return run


class Finished(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/gone" else 200)
        self.end_headers()
        self.wfile.write(FILE)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
        """Stays quiet."""


@pytest.fixture
def files() -> Iterator[str]:
    """Where finished media can be had; /gone cannot."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Finished) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
