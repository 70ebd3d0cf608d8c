"""Command `sandbox`: a local Replicate-compatible API for tests."""

import asyncio
import logging
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mediagate_cli.exit_codes import print_error
from mediagate_cli.option_groups import expand_option_groups

if TYPE_CHECKING:
    from mediagate_sandbox.cassettes.server import CassetteServer
    from mediagate_sandbox.server import Sandbox
    from mediagate_sandbox.settings import SandboxSettings

_RUNS = "Runs"
_ACCESS = "Access and rate limits"
_BILL = "Billing"
_FAULTS = "Faults"
_CASSETTES = "Recording and replay"


_TRUST_VARIABLES = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
"""By what clients trust one more certificate: Python, Go and OpenSSL by the first, Node the other.
"""


class Auth(StrEnum):
    """Which tokens are accepted."""

    OPEN = "open"
    TOKEN = "token"  # noqa: S105 - a word of the command line
    REFUSE = "refuse"


class Credit(StrEnum):
    """Credit of the account."""

    ENOUGH = "enough"
    LOW = "low"
    NONE = "none"


class StreamDialect(StrEnum):
    """Which events streams have."""

    REPLICATE = "replicate"
    COG = "cog"


class Billing(StrEnum):
    """Whether an unsuccessful run is billed."""

    USED = "used"
    FREE = "free"


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """Options of runs and outputs. The fields are those of SandboxSettings, here and below."""

    seed: Annotated[
        int, typer.Option(help="The same seed makes the same outputs.", rich_help_panel=_RUNS)
    ] = 1
    time_scale: Annotated[
        float,
        typer.Option(
            help="How long runs take: 1 is as long as on Replicate.", rich_help_panel=_RUNS
        ),
    ] = 0.02
    token_time_scale: Annotated[
        float, typer.Option(help="The same, between two tokens.", rich_help_panel=_RUNS)
    ] = 0.25
    small_files: Annotated[
        bool,
        typer.Option(
            "--small-files", help="Make files tiny, for load tests.", rich_help_panel=_RUNS
        ),
    ] = False
    inline_outputs: Annotated[
        bool,
        typer.Option(
            "--inline-outputs",
            help="Put files into synchronous answers, as data URIs.",
            rich_help_panel=_RUNS,
        ),
    ] = False
    cold_boots: Annotated[
        bool,
        typer.Option("--cold-boots", help="Community models boot first.", rich_help_panel=_RUNS),
    ] = False
    stream_dialect: Annotated[
        StreamDialect,
        typer.Option(
            help="Events of streams: Replicate's, or those of its containers (Cog).",
            rich_help_panel=_RUNS,
        ),
    ] = StreamDialect.REPLICATE
    directives: Annotated[
        bool, typer.Option(help="Obey [[...]] in prompts.", rich_help_panel=_RUNS)
    ] = True


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """Options of access: an empty text and a limit of 0 are None in the settings."""

    auth: Annotated[
        Auth,
        typer.Option(help="Require a token, none, or refuse all.", rich_help_panel=_ACCESS),
    ] = Auth.TOKEN
    token: Annotated[
        str,
        typer.Option(
            help="The only token accepted. Empty: any, but one is required.",
            rich_help_panel=_ACCESS,
        ),
    ] = ""
    creates_per_minute: Annotated[
        float, typer.Option(help="Limit of creates; 0 is none.", rich_help_panel=_ACCESS)
    ] = 600
    requests_per_minute: Annotated[
        float, typer.Option(help="Limit of everything else; 0 is none.", rich_help_panel=_ACCESS)
    ] = 3000
    gets_per_minute: Annotated[
        float,
        typer.Option(help="Limit of reads of one prediction; 0 is none.", rich_help_panel=_ACCESS),
    ] = 60_000
    credit: Annotated[
        Credit,
        typer.Option(
            help="Low slows creates down, none answers them with 402.", rich_help_panel=_ACCESS
        ),
    ] = Credit.ENOUGH
    webhook_secret: Annotated[
        str,
        typer.Option(help="whsec_ and base64. Empty: random.", rich_help_panel=_ACCESS),
    ] = ""
    webhooks_over_http: Annotated[
        bool,
        typer.Option(
            "--webhooks-over-http",
            help="Post webhooks without TLS beyond loopback.",
            rich_help_panel=_ACCESS,
        ),
    ] = False
    control: Annotated[
        bool, typer.Option(help="Serve /sandbox/..., without a token.", rich_help_panel=_ACCESS)
    ] = True


@dataclass(frozen=True, slots=True)
class BillingOptions:
    """Options of billing."""

    prices: Annotated[
        Path | None,
        typer.Option(help="TOML file that overrides its prices.", rich_help_panel=_BILL),
    ] = None
    bill_file: Annotated[
        Path | None,
        typer.Option(help="Append the bill here, as JSON lines.", rich_help_panel=_BILL),
    ] = None
    bill_failed: Annotated[
        Billing, typer.Option(help="What failed runs are billed.", rich_help_panel=_BILL)
    ] = Billing.USED
    bill_canceled: Annotated[
        Billing, typer.Option(help="What canceled runs are billed.", rich_help_panel=_BILL)
    ] = Billing.USED
    bill_aborted: Annotated[
        Billing, typer.Option(help="What runs that never began are billed.", rich_help_panel=_BILL)
    ] = Billing.FREE


@dataclass(frozen=True, slots=True)
class FaultOptions:
    """Options of injected faults."""

    faults: Annotated[
        Path | None,
        typer.Option(help="Fault plan, TOML or JSON; see below.", rich_help_panel=_FAULTS),
    ] = None
    fault_seed: Annotated[
        int | None,
        typer.Option(help="Seed of a plan without one. Default: random.", rich_help_panel=_FAULTS),
    ] = None


@dataclass(frozen=True, slots=True)
class CassetteOptions:
    """Options of cassettes: with one of these the sandbox makes nothing up."""

    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Be a proxy to the real API, and record it here.",
            rich_help_panel=_CASSETTES,
        ),
    ] = None
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Answer from what was recorded here.", rich_help_panel=_CASSETTES
        ),
    ] = None
    upstream: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="The API to record. Empty: Replicate's.",
            rich_help_panel=_CASSETTES,
        ),
    ] = ""


@expand_option_groups
def sandbox(
    runs: SimulationOptions,
    access: AccessOptions,
    bill: BillingOptions,
    faults: FaultOptions,
    cassettes: CassetteOptions,
    host: Annotated[str, typer.Option(help="Where to listen; loopback.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8787,
    tls: Annotated[
        bool, typer.Option("--tls", help="Speak https, by a certificate made at the start.")
    ] = False,
    tls_ca_file: Annotated[
        Path | None,
        typer.Option(help="Where the certificate to trust is written. Default: a temporary file."),
    ] = None,
    public_url: Annotated[
        str, typer.Option(help="Origin of links. Empty: the host that each caller asked for.")
    ] = "",
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log requests, webhooks and faults.")
    ] = False,
) -> None:
    """Serve a Replicate-compatible API that makes real media, bills it and costs nothing.

    Point any Replicate client at it: REPLICATE_API_TOKEN=any, base URL http://HOST:PORT; a server:
    MEDIAGATE_UPSTREAM_URL=http://HOST:PORT. GET / lists the models.
    """
    values: dict[str, Any] = {
        "host": host,
        "port": port,
        "tls": tls,
        "tls_ca_file": tls_ca_file,
        "public_url": public_url,
        **asdict(runs),
        **asdict(access),
        **asdict(bill),
        **asdict(faults),
    }
    settings = _settings(values)
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    if cassettes == CassetteOptions():
        _serve(settings)
    else:
        _serve_cassette(settings, cassettes)


def _settings(values: dict[str, Any]) -> "SandboxSettings":
    """Build the settings. Raises BadParameter."""
    from mediagate_sandbox.faults.plan_parser import FaultPlan, load_plan_file
    from mediagate_sandbox.settings import SandboxSettings

    for name in ("public_url", "token", "webhook_secret"):
        values[name] = values[name] or None
    for name in ("creates_per_minute", "requests_per_minute", "gets_per_minute"):
        values[name] = values[name] or None
    try:
        plan = FaultPlan() if values["faults"] is None else load_plan_file(values["faults"])
        return SandboxSettings(**values | {"faults": plan})
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    except OSError as error:
        raise typer.BadParameter(f"{error.filename}: {error.strerror}") from None


def _serve(settings: "SandboxSettings") -> None:
    from mediagate_sandbox.server import run

    def started(running: "Sandbox") -> None:
        seeds = f"seed {running.settings.seed}, fault seed {running.faults.seed}"
        print_error(f"The sandbox answers at {running.url} ({seeds}).")
        _print_trust(running.ca_file)
        if running.settings.control:
            print_error(f"What it did and what it would have cost: {running.url}/sandbox/bill")

    try:
        asyncio.run(run(settings, started=started))
    except (OSError, ValueError) as error:
        print_error(f"the sandbox cannot serve: {error}")
        raise typer.Exit(1) from None


def _print_trust(ca_file: Path | None) -> None:
    if ca_file is not None:
        trust = ", ".join(f"{name}={ca_file.absolute()}" for name in _TRUST_VARIABLES)
        print_error(f"To trust its certificate: {trust}")


def _serve_cassette(settings: "SandboxSettings", options: CassetteOptions) -> None:
    """Record or replay. Raises BadParameter for options that contradict each other."""
    from mediagate_sandbox.cassettes.server import REPLICATE, recorder, replayer
    from mediagate_sandbox.server import serve

    if options.record is not None and options.replay is not None:
        raise typer.BadParameter("--record and --replay are one or the other")
    if options.record is None and options.upstream:
        raise typer.BadParameter("--upstream goes with --record: a replay has none")
    try:
        if options.record is not None:
            upstream = options.upstream or REPLICATE
            server = recorder(options.record, settings, upstream=upstream)
            does = f"records {upstream} into {options.record}"
        else:
            assert options.replay is not None  # noqa: S101 - one of the three is given
            server = replayer(options.replay, settings)
            does = f"replays {options.replay}"
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None

    def started(running: "CassetteServer") -> None:
        print_error(f"The sandbox {does} at {running.url}.")
        _print_trust(running.ca_file)

    try:
        asyncio.run(serve(server, started))
    except (OSError, ValueError) as error:
        print_error(f"the sandbox cannot serve: {error}")
        raise typer.Exit(1) from None


USAGE_EXAMPLES = """\
[bold]Examples[/bold]

  mediagate sandbox --time-scale 0 --token-time-scale 0
  mediagate sandbox --tls --tls-ca-file ca.pem
  curl --cacert ca.pem -s https://localhost:8787/sandbox/bill
  mediagate sandbox --faults plan.toml --fault-seed 7 --verbose
  curl -s localhost:8787/sandbox/bill
  curl -s localhost:8787/sandbox/faults
  curl -s localhost:8787/sandbox/faults -d \\
    '{"faults": [{"do": "lose_answer", "on": "create", "times": 1}]}'
  curl -s -X DELETE localhost:8787/sandbox/faults
  mediagate sandbox --record runs.jsonl      # a proxy: your token pays, and is not recorded
  mediagate sandbox --replay runs.jsonl --time-scale 0

[bold]A fault plan[/bold] (TOML; JSON has the same names)

  seed = 7                    # the same seed and requests: the same faults
  [\\[faults]]
  do = "throttle"             # what happens
  on = ["create", "get"]      # at which endpoints
  model = "meta/*"            # only to these models
  retry_after = 2             # what this fault takes
  every = 5                   # also: nth, times, after, probability

[bold]What can happen[/bold]

  to requests     refuse, delay (ms, at), hang (at), throttle (retry_after),
                  error (status, at), accept_late (ms, status), list_late (ms),
                  lose_answer, reset_body (after_bytes),
                  redirect (location, status), garbage (text, after_bytes),
                  cut_stream (after_bytes, how)
  to predictions  duplicate_id, fail (error, tokens), abort, empty_output,
                  foreign_output (origin), drift_price (factor)
  to models       change_schema (remove, require), retire_model
  to webhooks     lose_webhook, repeat_webhook (copies), reorder_webhooks,
                  delay_webhook (ms), forge_webhook (status, instead)
  endpoints       create, get, cancel, list, stream, files, output,
                  webhook, secret, model
"""
