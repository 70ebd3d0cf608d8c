"""Connection errors: no server, or no upstream. Same message and exit code of each command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from mediagate.v1.generation_pb2 import Attempt, Generation
from mediagate_cli import catalog_check, connection
from mediagate_cli.exit_codes import FAILED, REFUSED, exit_code_of
from mediagate_client import errors
from mediagate_client.errors import MediagateError
from mediagate_client.generation_result import raise_for_failure
from mediagate_server.api.status import to_status
from mediagate_server.errors import UpstreamUnavailable
from tests.unreachable_addresses import black_hole, refused, silent

from .conftest import Mediagate

COMMANDS = (
    ("text", "Why?"),
    ("image", "a cat"),
    ("video", "a cat"),
    ("audio", "a cat"),
    ("check", "a cat"),
    ("run", "owner/name", "-i", "prompt=x"),
    ("models",),
    ("show", "flux-schnell"),
    ("reconcile",),
    ("upload", "a.png"),
    ("save", "gen_1"),
    ("costs",),
    ("costs", "compare", "invoice.csv"),
    ("webhooks", "list"),
    ("webhooks", "redeliver", "one"),
    ("webhooks", "rotate-secret"),
)


@contextmanager
def unknown() -> Iterator[str]:
    """A name that there is not."""
    yield "no-such-host.invalid:50051"


@pytest.mark.parametrize("address_of_nobody", [refused, silent, black_hole, unknown])
def test_every_command_reports_an_unreachable_server(
    mediagate: Mediagate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address_of_nobody: object
) -> None:
    """It does not wait for one."""
    assert connection._CONNECT_SECONDS <= 3
    monkeypatch.setattr(connection, "_CONNECT_SECONDS", 0.2)
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "invoice.csv").write_text("model,amount_usd\na/b,1\n")
    with address_of_nobody() as target:  # type: ignore[operator]
        monkeypatch.setenv("MEDIAGATE_TARGET", target)
        for command in COMMANDS:
            done = mediagate(*command)
            said = f"mediagate: no server answers at {target}: start one with `mediagate serve`"
            assert (done.exit_code, done.stderr.startswith(said)) == (REFUSED, True), command


@pytest.mark.parametrize("address_of_nobody", [refused, black_hole])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_catalog_check_reports_an_unreachable_upstream(
    mediagate: Mediagate, monkeypatch: pytest.MonkeyPatch, address_of_nobody: object, scheme: str
) -> None:
    """Said once, not for each model."""
    assert catalog_check._CONNECT_SECONDS <= 3
    monkeypatch.setattr(catalog_check, "_CONNECT_SECONDS", 0.2)
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_any")
    with address_of_nobody() as target:  # type: ignore[operator]
        monkeypatch.setenv("MEDIAGATE_UPSTREAM_URL", f"{scheme}://{target}")
        done = mediagate("catalog", "check")
    assert done.exit_code == REFUSED
    assert done.stderr == "mediagate: upstream cannot be reached (UPSTREAM_UNAVAILABLE)\n"


def failed_with(*states: "Attempt.State.ValueType") -> MediagateError:
    """The error of a generation whose attempts ended so."""
    failure = to_status(UpstreamUnavailable.unreachable().failure)
    generation = Generation(
        state=Generation.STATE_FAILED,
        attempts=[Attempt(state=state) for state in states],
        error=failure,
    )
    with pytest.raises(MediagateError) as caught:
        raise_for_failure(generation, raise_on_failure=True)
    return caught.value


def status(reason: str) -> MediagateError:
    """The error of an rpc that was refused for this reason."""
    return errors.Unavailable(errors.Details(grpc.StatusCode.UNAVAILABLE, "", reason))


def test_equal_failures_have_equal_exit_codes() -> None:
    """Whether a status tells of it or a generation does."""
    refused_once, ran = Attempt.STATE_REFUSED, Attempt.STATE_FAILED
    assert exit_code_of(failed_with(refused_once)) == REFUSED
    assert exit_code_of(failed_with(refused_once, Attempt.STATE_ABSENT)) == REFUSED
    assert exit_code_of(status("UPSTREAM_UNAVAILABLE")) == REFUSED
    assert exit_code_of(failed_with(ran)) == FAILED
    assert exit_code_of(failed_with(ran, refused_once)) == FAILED
    assert exit_code_of(failed_with(Attempt.STATE_UNCONFIRMED)) == FAILED
    assert exit_code_of(status("SUBMIT_UNCONFIRMED")) == FAILED
