"""`mediagate costs`: what a running server spent, as a table, as JSON, and beside an invoice."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mediagate.v1.models_pb2 import ListModelsResponse
from mediagate.v1.usage_pb2 import GetUsageResponse, UsageTotal
from mediagate_cli.format import parse_usd_nanos
from mediagate_client import Client
from tests.client.scripted_server import ScriptedServer
from tests.sandbox_process import AT_ONCE, UNLIMITED, running_sandbox
from tests.server_process import running_server

from .conftest import Mediagate

FLUX, CLAUDE, FILM = "black-forest-labs/flux-dev", "anthropic/claude-4.5-sonnet", "minimax/video-01"


@pytest.fixture(scope="module")
def spent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, int]]]:
    """A server that has made a little of everything, and the sandbox's bill by model."""
    folder = tmp_path_factory.mktemp("spent")
    with running_sandbox(folder, *AT_ONCE, *UNLIMITED) as sandbox:
        environment = {
            "MEDIAGATE_UPSTREAM_URL": sandbox.url,
            "REPLICATE_API_TOKEN": "r8_test",
        }
        with running_server(folder, **environment) as server, Client(server.address) as client:
            for team in ("a", "b", "b"):
                client.generate_image("a lighthouse", model="flux-dev", labels={"team": team})
            client.generate_text("Why?", model="claude")
            film = client.generate_video("rain", model="minimax-video", labels={"team": "a"})
            client.wait(film.id)
            billed: dict[str, int] = {}
            for entry in sandbox.bill()["entries"]:
                billed[entry["model"]] = billed.get(entry["model"], 0) + entry["nanos"]
            yield server.address, billed


@pytest.fixture
def costs(
    spent: tuple[str, dict[str, int]], mediagate: Mediagate, monkeypatch: pytest.MonkeyPatch
) -> Mediagate:
    """`mediagate costs` against that server."""
    monkeypatch.setenv("MEDIAGATE_TARGET", spent[0])
    return lambda *arguments, **more: mediagate("costs", *arguments, **more)


def invoice(billed: dict[str, int], **factors: str) -> str:
    """What the models cost, as CSV; some times a factor."""
    names = {"flux": FLUX, "claude": CLAUDE, "film": FILM}
    changed = {names[name]: Decimal(factor) for name, factor in factors.items()}
    lines = [
        f"{model},{Decimal(nanos).scaleb(-9) * changed.get(model, 1):f}"
        for model, nanos in billed.items()
    ]
    return "\n".join(("model,amount_usd", *lines, ""))


def test_totals_equal_the_bill(spent: tuple[str, dict[str, int]], costs: Mediagate) -> None:
    """By model, as JSON; the dearest first."""
    done = costs("--json")
    assert done.exit_code == 0, done.output
    totals = json.loads(done.stdout)
    spent_by_model = {total["model"]: parse_usd_nanos(total["settled_usd"]) for total in totals}
    assert spent_by_model == spent[1]
    assert list(spent_by_model) == [FILM, FLUX, CLAUDE]


def test_as_a_table(costs: Mediagate) -> None:
    """Groups, amounts, a sum below; the time in a line for people."""
    done = costs("--by", "model", "--by", "day", "--by-label", "team")
    assert done.exit_code == 0, done.output
    today = datetime.now(UTC).date().isoformat()
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["MODEL", "DAY", "TEAM", "CHARGES", "SETTLED", "ASSUMED", "UNKNOWN"]
    assert [FLUX, today, "b", "2", "$0.05"] in rows
    assert [FLUX, today, "a", "1", "$0.025"] in rows
    assert rows[-1][0] == "5"
    assert today[:7] in done.stderr


def test_by_price_and_by_kind(costs: Mediagate) -> None:
    """The row of the price list that was used, with its date."""
    done = costs("--by", "modality", "--by", "price")
    assert done.exit_code == 0, done.output
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert {"image", "text", "video"} <= rows.keys()
    assert "2026-" in rows["image"]


def test_filters_by_time_and_labels(costs: Mediagate) -> None:
    """Nothing is said to be nothing."""
    for arguments in (("--month", "2025-01"), ("--label", "team=c"), ("--model", "nobody/x")):
        done = costs(*arguments)
        assert (done.exit_code, done.stdout) == (0, "Nothing was spent.\n"), done.output
    filtered = costs("--label", "team=a", "--model", FLUX, "--since", "2026-01-01", "--json")
    assert [total["charges"] for total in json.loads(filtered.stdout)] == ["1"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--month", "2026-13"),
        ("--month", "2026-11", "--since", "2026-11-01"),
        ("--since", "yesterday"),
        ("--since", "2026-11-02", "--until", "2026-11-01"),
        ("--month", "9999-12"),
        ("--until", "9999-12-31"),
        ("--month", "0000-01"),
        ("compare", "-", "--month", "9999-12"),
        ("--label", "team"),
        ("--by", "colour"),
        ("compare", "nowhere.csv"),
        ("compare", "-", "--tolerance", "much"),
    ],
)
def test_a_wrong_command_line(costs: Mediagate, arguments: tuple[str, ...]) -> None:
    """Ends with 2, also beside an invoice that can be read."""
    assert costs(*arguments, input=f"model,amount_usd\n{FLUX},1\n").exit_code == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"model,amount_usd\n{FLUX},0,015\n", "line 2"),
        (f'model,amount_usd\n{FLUX},"0,015"\n', "line 2"),
        (f"model,amount_usd,month\n{FLUX},1,9999-12\n", "'9999-12' is too late"),
        (f"model,amount_usd,month\n{FLUX},1,0000-01\n", "'0000-01' is not a month"),
        ("[" * 100_000, "nested too deep"),
        (f'model,amount_usd\n"{"x" * 200_000}",1\n', "line 2"),
    ],
)
def test_an_invoice_that_cannot_be_read(costs: Mediagate, text: str, words: str) -> None:
    """Ends with 2 as well, not with the 1 of one that differs, and the file is named."""
    done = costs("compare", "-", input=text)
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    assert not done.stdout
    message = " ".join(done.stderr.replace("│", " ").split())
    assert "FILE" in message
    assert words in message


def test_an_invoice_of_nothing_differs(costs: Mediagate) -> None:
    """Zero dollars, as JSON writes them, do not agree with what was spent."""
    for zero in (0, 0.0, "0"):
        lines = [{"model": model, "amount_usd": zero} for model in (FLUX, CLAUDE, FILM)]
        done = costs("compare", "-", "--json", input=json.dumps(lines))
        assert done.exit_code == 1, done.output
        verdicts = {row["model"]: row["verdict"] for row in json.loads(done.stdout)}
        assert verdicts[FLUX] == verdicts[FILM] == "differs"


def test_more_than_three_groups_are_refused_by_the_server(costs: Mediagate) -> None:
    """With the field named."""
    groups = [option for name in ("model", "day", "tenant") for option in ("--by", name)]
    done = costs(*groups, "--by-label", "team")
    assert done.exit_code == 1
    assert "group_by" in done.stderr


def test_an_invoice_that_agrees(
    spent: tuple[str, dict[str, int]], costs: Mediagate, tmp_path: Path
) -> None:
    """Within the tolerance: exit 0, whether read from a file or from stdin."""
    text = invoice(spent[1], flux="1.004", film="0.996")
    (tmp_path / "invoice.csv").write_text(text)
    for done in (costs("compare", "invoice.csv"), costs("compare", "-", input=text)):
        assert done.exit_code == 0, done.output
        assert "3 models, 0 further apart than 0.5 %" in done.stderr
        assert done.stdout.count("agrees") == 3
    strict = costs("compare", "-", "--tolerance", "0.1", input=text)
    assert strict.exit_code == 1


def test_an_invoice_that_differs(spent: tuple[str, dict[str, int]], costs: Mediagate) -> None:
    """Exit 1; the model, and what only the invoice has."""
    text = invoice(spent[1], flux="1.1") + "acme/unheard-of,3.00\n"
    done = costs("compare", "-", input=text)
    assert done.exit_code == 1, done.output
    line = next(line for line in done.stdout.splitlines() if line.startswith(FLUX))
    assert "+9.09 %  differs" in line
    assert "4 models, 2 further apart" in done.stderr
    rows_by_model = {
        row["model"]: row for row in json.loads(costs("compare", "-", "--json", input=text).stdout)
    }
    assert rows_by_model[FLUX]["off_by_percent"] == 9.0909
    assert rows_by_model["acme/unheard-of"]["verdict"] == "not in the ledger"
    assert rows_by_model[FILM]["verdict"] == rows_by_model[CLAUDE]["verdict"] == "agrees"


def test_an_invoice_may_call_models_by_alias(
    spent: tuple[str, dict[str, int]], costs: Mediagate
) -> None:
    """With a version behind the slug, too: they are the ledger's models."""
    called = {FLUX: "Flux-Dev", CLAUDE: f"{CLAUDE}:latest", FILM: FILM}
    text = invoice({called[model]: nanos for model, nanos in spent[1].items()})
    done = costs("compare", "-", input=text)
    assert done.exit_code == 0, done.output
    assert "3 models, 0 further apart" in done.stderr


def test_a_month_comes_from_the_file_or_the_command_line(
    spent: tuple[str, dict[str, int]], costs: Mediagate
) -> None:
    """The command line wins; in another month nothing was spent."""
    month = datetime.now(UTC).strftime("%Y-%m")
    text = json.dumps(
        [
            {"month": "2025-01", "model": model, "amount_usd": f"{Decimal(nanos).scaleb(-9):f}"}
            for model, nanos in spent[1].items()
        ]
    )
    done = costs("compare", "-", "--json", input=text)
    assert done.exit_code == 1
    assert {row["verdict"] for row in json.loads(done.stdout)} == {"not in the ledger"}
    assert costs("compare", "-", "--month", month, input=text).exit_code == 0


def test_unknown_and_assumed_costs_are_separate(
    scripted_server: ScriptedServer, mediagate: Mediagate
) -> None:
    """In the totals, and beside an invoice."""
    totals = [
        UsageTotal(model="a/b", price_date="2026-10-07", charges=1, settled_usd_nanos=10**9),
        UsageTotal(model="a/b", price_tier="x is y", charges=2, unknown_charges=2),
        UsageTotal(model="c/d", price_date="2026", charges=1, assumed_usd_nanos=5 * 10**9),
    ]
    for _ in range(2):
        scripted_server.plays("GetUsage", GetUsageResponse(totals=totals))
    scripted_server.plays("ListModels", ListModelsResponse())
    done = mediagate("costs", "--all-tenants", "--by", "price")
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["unknown:", "x", "is", "y", "2", "$0.00", "2"] in rows
    assert ["2026", "1", "$0.00", "$5.00"] in rows
    text = "model,amount_usd\na/b,2.00\nc/d,6.00\n"
    compared: Any = mediagate("costs", "compare", "-", input=text)
    assert compared.exit_code == 1
    rows = [line.split() for line in compared.stdout.splitlines()]
    assert ["a/b", "$1.00", "2", "$2.00", "+50.00", "%", "differs"] in rows
    assert ["c/d", "$5.00", "$5.00", "$6.00", "+16.67", "%", "differs"] in rows
    first, second = scripted_server.requests_of("GetUsage")
    assert first.filter.tenant == second.filter.tenant == "*"
