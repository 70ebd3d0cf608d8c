"""`mediagate sandbox`: its help is enough to use it, and it does what it is told."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from mediagate_cli.sandbox import AccessOptions, BillingOptions, FaultOptions, SimulationOptions
from mediagate_client import Client, media_of
from mediagate_sandbox.control_client import SandboxControl
from mediagate_sandbox.faults.actions import ACTIONS, ENDPOINTS
from mediagate_sandbox.settings import SandboxSettings
from tests.sandbox_process import AT_ONCE, running_sandbox
from tests.server_process import running_server

from .conftest import Mediagate

PLAN = 'seed = 7\n[[faults]]\ndo = "throttle"\non = "create"\n'


def test_options_are_settings() -> None:
    """Each option is a setting of the sandbox, with its default."""
    settings_by_name = {field.name: field for field in fields(SandboxSettings)}
    for bundle in (SimulationOptions, AccessOptions, BillingOptions, FaultOptions):
        for option in fields(bundle):
            assert option.name in settings_by_name
            default = settings_by_name[option.name].default
            if option.name != "faults":
                assert (option.default or None) == (default or None), option.name


def test_help_lists_all_faults(mediagate: Mediagate) -> None:
    """Every fault with what it takes, every endpoint, and examples."""
    help_text = " ".join(mediagate("sandbox", "--help").stdout.split())
    for do, action in ACTIONS.items():
        field_names = ", ".join(each.name for each in fields(action))
        words = f"{do} ({field_names})" if field_names else do
        assert re.search(rf"(?<!\w){re.escape(words)}(?! \()", help_text), words
    assert all(
        re.search(rf"\b{each}\b", help_text.partition(" endpoints ")[2]) for each in ENDPOINTS
    )
    assert "[[faults]]" in help_text
    assert "/sandbox/bill" in help_text


def test_the_address_and_seeds_are_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first line is enough to call it and to repeat the run."""
    with running_sandbox(tmp_path, "--seed", "4", "--fault-seed", "9") as sandbox:
        assert sandbox.state()["seed"] == 4
    said = capfd.readouterr().out
    assert said == f"The sandbox answers at {sandbox.url} (seed 4, fault seed 9).\n"


def test_tls_names_the_file_to_trust(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As the variables that clients read it from."""
    ca_file = tmp_path / "ca.pem"
    with running_sandbox(tmp_path, "--tls", "--tls-ca-file", "ca.pem") as sandbox:
        assert sandbox.url.startswith("https://127.0.0.1:")
        assert SandboxControl(sandbox.url, ca_file).state()["seed"] == 1
    assert sandbox.url in capfd.readouterr().out
    words = (tmp_path / "sandbox.log").read_text()
    assert f"SSL_CERT_FILE={ca_file}, NODE_EXTRA_CA_CERTS={ca_file}" in words


@pytest.mark.needs_gate
def test_a_server_trusts_it_by_the_same_file(tmp_path: Path) -> None:
    """`mediagate serve` streams a text and fetches a picture over https."""
    tls = ("--tls", "--tls-ca-file", "ca.pem")
    with running_sandbox(tmp_path, *tls, *AT_ONCE) as sandbox:
        settings = {
            "MEDIAGATE_UPSTREAM": "replicate",
            "MEDIAGATE_UPSTREAM_URL": sandbox.url,
            "REPLICATE_API_TOKEN": "any",
            "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
        }
        with (
            running_server(tmp_path / "server", **settings) as server,
            Client(server.address) as client,
        ):
            assert "[sandbox" in client.stream_text("Hello").read()
            image = client.generate_image("a boat", model="flux-schnell")
            (medium,) = media_of(image)
            assert b"".join(client.read_media(medium))


def test_a_plan_prices_and_a_bill_from_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As the options say; the plan's own seed beats the option."""
    (tmp_path / "plan.toml").write_text(PLAN)
    (tmp_path / "prices.toml").write_text('["minimax/video-01"]\nunpriced = "a test"\n')
    arguments = ("--faults", "plan.toml", "--fault-seed", "9", "--prices", "prices.toml")
    with running_sandbox(tmp_path, *arguments, "--bill-file", "bill.jsonl") as sandbox:
        assert sandbox.bill()["predictions"] == 0
    assert "fault seed 7" in capfd.readouterr().out
    assert (tmp_path / "bill.jsonl").exists()


@pytest.mark.parametrize(
    ("option", "content", "words"),
    [
        ("--replay", None, "runs.jsonl: No such file or directory"),
        ("--replay", "hello\n", "runs.jsonl is not a cassette: it has no head"),
        ("--replay", '{"cassette": 9, "upstream": "http://x"}\n', "of version 9"),
        ("--record", '{"cassette": 1, "upstream": "http://x"}\n', "is a recording of http://x"),
    ],
)
def test_an_unusable_cassette_is_reported_in_one_line(
    mediagate: Mediagate, tmp_path: Path, option: str, content: str | None, words: str
) -> None:
    """Exit code 1, the file, and what is wrong with it."""
    if content is not None:
        (tmp_path / "runs.jsonl").write_text(content)
    done = mediagate("sandbox", "--port", "0", option, "runs.jsonl")
    assert done.exit_code == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--time-scale", "-1"), "time_scale"),
        (("--time-scale", "nan"), "time_scale"),
        (("--token-time-scale", "inf"), "token_time_scale"),
        (("--port", "99999"), "port"),
        (("--port", "-1"), "port"),
        (("--tls-ca-file", "ca.pem"), "tls_ca_file needs tls"),
        (("--public-url", "notaurl"), "public_url"),
        (("--public-url", "http://box:8787/path"), "public_url"),
        (("--creates-per-minute", "-1"), "creates_per_minute"),
        (("--auth", "perhaps"), "--auth"),
        (("--faults", "none.toml"), "none.toml"),
        (("--record", "a.jsonl", "--replay", "b.jsonl"), "one or the other"),
        (("--upstream", "http://127.0.0.1:1"), "goes with --record"),
        (("--record", "a.jsonl", "--upstream", "ftp://x"), "upstream must be an origin"),
        (("--record", "a.jsonl", "--upstream", "http://x/other"), "upstream must be an origin"),
        (("--faults", "wrong.toml"), "faults[0].do"),
    ],
)
def test_a_wrong_command_line_names_the_problem(
    mediagate: Mediagate, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """Exit code 2 and the option, setting, file or field."""
    (tmp_path / "wrong.toml").write_text('[[faults]]\ndo = "explode"\n')
    done = mediagate("sandbox", *arguments)
    assert done.exit_code == 2
    assert words in "".join(done.stderr.split("│")).replace("\n", "")


def test_a_wrong_price_file_is_named(mediagate: Mediagate, tmp_path: Path) -> None:
    """It cannot serve, and says why."""
    (tmp_path / "prices.toml").write_text('["a/b"]\nlines = []\n')
    done = mediagate("sandbox", "--port", "0", "--prices", "prices.toml")
    assert done.exit_code == 1
    assert "prices.toml: a/b: lines" in done.stderr
