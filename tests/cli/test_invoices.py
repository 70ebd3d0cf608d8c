"""Invoices as they are read, and held against the ledger: pure parts."""

import csv
import io
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate.v1.models_pb2 import Model, StandIn
from mediagate_cli.differences import Difference, PriceRow, Verdict, compare
from mediagate_cli.invoices import Amount, InvoiceError, read_invoice
from mediagate_cli.naming import Names, plain_name

names = st.from_regex(r"[a-z][a-z0-9.-]{0,9}/[a-z][a-z0-9.-]{0,9}", fullmatch=True)
sums = st.decimals("-1000000", "1000000", places=4)
HALF = Decimal("0.5")


def row(nanos: int, tier: str = "", model: str = "a/b") -> PriceRow:
    """What one row of a price list was charged."""
    return PriceRow(model, tier, "2026-10-07", nanos, 0, 0)


def stated(usd: str) -> Amount:
    """An amount without slack."""
    return Amount(Decimal(usd) * 10**9, Decimal(0), 1)


def only(rows: list[PriceRow], usd: str | None, tolerance: Decimal = HALF) -> Difference:
    """The comparison of one model."""
    (found,) = compare(rows, {"a/b": stated(usd)} if usd is not None else {}, tolerance)
    return found


@given(st.lists(st.tuples(names, sums), min_size=1), st.sampled_from(["csv", "list", "object"]))
def test_what_is_written_is_read(lines: list[tuple[str, Decimal]], form: str) -> None:
    """To the last digit, whatever the form; lines of a model are added up."""
    if form == "csv":
        file = io.StringIO()
        csv.writer(file).writerows([("model", "amount_usd"), *lines])
        text = file.getvalue()
    else:
        plain = [{"model": model, "amount_usd": str(usd)} for model, usd in lines]
        text = json.dumps(plain if form == "list" else {"month": "2026-10", "lines": plain})
    read = read_invoice(text)
    assert read.month == ("2026-10" if form == "object" else "")
    assert read.amounts.keys() == {model for model, _ in lines}
    for model, amount in read.amounts.items():
        mine = [usd for name, usd in lines if name == model]
        assert amount.nanos == sum(mine) * 10**9
        assert amount.lines == len(mine)
        assert amount.slack == len(mine) * 50_000


@given(st.lists(sums.map(float), min_size=1))
def test_rounding_hides_half_a_cent_a_line_and_no_more(amounts: list[float]) -> None:
    """However few places a number of JSON shows: there, $1.10 is 1.1, and $0.00 is 0 or 0.0."""
    for form in (float, str, lambda usd: int(usd) if usd.is_integer() else usd):
        lines = [{"model": "a/b", "amount_usd": form(usd)} for usd in amounts]
        (amount,) = read_invoice(json.dumps(lines)).amounts.values()
        assert amount.slack <= len(amounts) * 5_000_000


@pytest.mark.parametrize("lines", [[0.0], [0], ["0"], [0.0, 0.0, 0.0, 0.1]])
def test_what_was_not_billed_at_all_differs(lines: list[object]) -> None:
    """Zero does not agree with what the ledger has, be it written with one place or with none."""
    text = json.dumps([{"model": "a/b", "amount_usd": usd} for usd in lines])
    (found,) = compare([row(15_000_000)], read_invoice(text).amounts, HALF)
    assert found.verdict is Verdict.DIFFERS


def test_other_ways_to_write_the_same() -> None:
    """A byte order mark, other separators, other headings, more columns, dollar signs, versions."""
    text = (
        '\ufeffSlug; Description ;Cost USD;Month\r\n"A/b:123";"x;y";"$1,234.50";2026-10\r\n;;;\r\n'
    )
    read = read_invoice(text)
    assert read.month == "2026-10"
    assert read.amounts == {"a/b": Amount(Decimal(1234500000000), Decimal(5_000_000), 1)}
    numbers = read_invoice('[{"model": "a/b", "usd": 0.1}, {"model": "a/b", "usd": 2}]')
    assert numbers.amounts["a/b"].nanos == 2_100_000_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'model'"),
        ("model,amount_usd\n", "no lines"),
        ("model,what\na/b,1\n", "no column 'amount_usd'"),
        ("model,amount_usd\n,1\n", "line 2: it names no model"),
        ("model,amount_usd\na/b,1\nc/d,1.2.3\n", "line 3: '1.2.3' is not a sum"),
        ("model,amount_usd\na/b\n", "line 2: it has no amount"),
        ("model,amount_usd\nc/d,1\na/b,0,015\n", "line 3: it has 3 cells, the heading 2"),
        ("model,amount_usd\na/b,1,000\n", "line 2: it has 3 cells, the heading 2"),
        ("model,amount_usd\na/b,1,234.56\n", "line 2: it has 3 cells, the heading 2"),
        ("\n\nmodel,amount_usd\na/b,1,\n", "line 4: it has 3 cells, the heading 2"),
        ("model,n,amount_usd\na/b,1,000,0.015\n", "line 2: it has 4 cells, the heading 3"),
        ("cost,model,amount_usd\n5,a/b\n", "line 2: it has no amount"),
        ("amount_usd,model\n5\n", "line 2: it names no model"),
        ("model,amount_usd,Amount USD\na/b,1,2\n", "more than one column 'amount_usd'"),
        ("model,model,amount_usd\na/b,c/d,2\n", "more than one column 'model'"),
        ('model,amount_usd\na/b,"0,015"\n', "line 2: '0,015' is not a sum"),
        ("model;amount_usd\na/b;0,015\n", "line 2: '0,015' is not a sum"),
        ("model;amount_usd\na/b;-$00,015\n", "line 2: '-$00,015' is not a sum"),
        (f'model,amount_usd\na/b,1\n"{"x" * 131_073}",1\n', "line 3: field larger than"),
        (f'"{"x" * 131_073}",amount_usd\n', "line 1: field larger than"),
        (f"model,amount_usd\na/b,{'x' * 99_999}\n", "line 2: 'xxx"),
        ("model,amount_usd\na/b,NaN\n", "'NaN' is not a sum"),
        ("model,amount_usd\na/b,-\n", "'-' is not a sum"),
        ("model,amount_usd,month\na/b,1,2026-10\na/b,1,2026-11\n", "several months"),
        ("model,amount_usd,month\na/b,1,October\n", "'October' is not a month"),
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ('{"month": 202610, "lines": []}', "a month is a text"),
        ('[{"model": "a/b", "amount_usd": 1, "month": [[]]}]', "entry 1: a month is a text"),
        ('[{"model": "a/b", "amount_usd": 1e999999999}]', "'1E+999999999' is not a sum"),
        ('[{"model": "a/b", "amount_usd": 1e-999999999}]', "'1E-999999999' is not a sum"),
        (f'[{{"model": "a/b", "amount_usd": 1{"0" * 400}}}]', "entry 1: '1000"),
        ("{}", "neither a list"),
        ('[{"model": "a/b", "amount_usd": true}]', "entry 1: it has no amount"),
        ('[{"amount_usd": 1}]', "entry 1: it names no model"),
    ],
)
def test_what_is_no_invoice_is_told_where(text: str, words: str) -> None:
    """In one line, with the place."""
    with pytest.raises(InvoiceError, match=r"^[^\n]+$") as raised:
        read_invoice(text)
    assert words in str(raised.value)
    assert len(str(raised.value)) < 200


def test_numbers_are_read_to_the_last_digit() -> None:
    """As they stand there: also those that have no point, and those that have an exponent."""
    for written, nanos in (("123456789012345", 123456789012345 * 10**9), ("1.5E+2", 150 * 10**9)):
        read = read_invoice(f'[{{"model": "a/b", "amount_usd": {written}}}]')
        assert read.amounts["a/b"].nanos == nanos


def test_up_to_the_tolerance_they_agree() -> None:
    """Half a percent of the larger of the two, to the nano-dollar, either way."""
    assert only([row(10**12)], "1005.025125628").verdict is Verdict.AGREES
    assert only([row(10**12)], "1005.025125629").verdict is Verdict.DIFFERS
    assert only([row(10**12)], "995").verdict is Verdict.AGREES
    assert only([row(10**12)], "994.999999999").verdict is Verdict.DIFFERS
    assert only([row(1)], "0.000000002", Decimal(0)).verdict is Verdict.DIFFERS
    assert only([row(0)], "0").verdict is Verdict.AGREES


def test_what_rounding_does_is_no_difference() -> None:
    """A line of two places is true to half a cent, and not to more."""
    for usd, verdict in (("0.01", Verdict.AGREES), ("0.02", Verdict.DIFFERS)):
        amounts = read_invoice(f"model,amount_usd\na/b,{usd}\n").amounts
        (found,) = compare([row(12_000_000)], amounts, HALF)
        assert found.verdict is verdict


def test_what_only_one_side_has() -> None:
    """Is said, and there is no price to suspect where nothing was charged."""
    missing = only([row(5)], None)
    assert missing.verdict is Verdict.NOT_ON_INVOICE
    foreign = only([], "3")
    assert (foreign.verdict, foreign.suspect) == (Verdict.NOT_IN_LEDGER, None)
    assert foreign.ledger == 0
    assert foreign.percent == Decimal(100)


def test_the_suspect_is_the_row_that_would_have_to_change_least() -> None:
    """The one with most in it; where something has no price and too little was charged, that."""
    cheap, dear = row(10, "resolution is 480p"), row(90, "resolution is 720p")
    found = only([cheap, dear], "0.000000109")
    assert found.suspect == dear
    assert found.factor == Decimal("1.1")
    assert dear.name == "a/b where resolution is 720p, price of 2026-10-07"
    unpriced = PriceRow("a/b", "", "", 0, 0, 3)
    assert only([cheap, dear, unpriced], "1").suspect == unpriced
    assert only([cheap, dear, unpriced], "0.000000001").suspect == dear
    assert unpriced.name == "a/b, no price"


@given(st.dictionaries(names, st.integers(1, 10**12), min_size=1), st.data())
def test_every_planted_drift_is_found_and_nothing_else(
    ledger: dict[str, int], data: st.DataObject
) -> None:
    """Some models are billed a percent more; exactly those differ, the largest first."""
    drifted = data.draw(st.sets(st.sampled_from(sorted(ledger))))
    rows = [row(nanos, model=f"{model}:v1") for model, nanos in ledger.items()]
    invoice = {
        model: Amount(Decimal(nanos) * (Decimal("1.01") if model in drifted else 1), Decimal(0), 1)
        for model, nanos in ledger.items()
    }
    found = compare(rows, invoice, HALF)
    differing = {plain_name(one.model) for one in found if one.verdict is Verdict.DIFFERS}
    assert differing == drifted
    sizes = [abs(one.nanos) for one in found]
    assert sizes == sorted(sizes, reverse=True)
    assert {one.factor for one in found if one.suspect} <= {Decimal("1.01")}


SDXL, VERSION = (
    "stability-ai/sdxl",
    "7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc",
)
NAMES = Names.of(
    [
        Model(slug=SDXL, aliases=["SDXL"], version=VERSION),
        Model(slug="luma/ray-2", stands_in_for=[StandIn(name="luma/dream-machine")]),
        Model(slug="old/gone", successor="luma/ray-2"),
        Model(slug="another/one", version=f"7762fd07{'0' * 56}"),
    ]
)


@pytest.mark.parametrize(
    ("written", "charged", "meant"),
    [
        (SDXL, SDXL, SDXL),
        (f" Stability-AI/SDXL:{VERSION} ", SDXL, SDXL),
        (VERSION, SDXL, SDXL),
        (VERSION[:12], SDXL, SDXL),
        (VERSION[:8], SDXL, VERSION[:8]),  # Also how another one begins.
        ("sdxl", SDXL, SDXL),
        ("sdxl", "a/b", SDXL),
        (f"https://replicate.com/{SDXL}", SDXL, SDXL),
        (f"replicate.com/{SDXL}/versions/{VERSION}?tab=api", SDXL, SDXL),
        ("luma/dream-machine", "luma/ray-2", "luma/ray-2"),
        ("luma/dream-machine", "a/b", "luma/dream-machine"),
        ("old/gone", "luma/ray-2", "luma/ray-2"),
        ("old/gone", "old/gone", "old/gone"),
        ("acme/ours", "deployments/acme/ours", "deployments/acme/ours"),
        ("https://replicate.com/deployments/acme/ours", "acme/ours", "acme/ours"),
        ("deployments/acme/ours", "a/b", "deployments/acme/ours"),
        ("unheard/of", "a/b", "unheard/of"),
    ],
)
def test_a_model_is_known_by_any_of_its_names(written: str, charged: str, meant: str) -> None:
    """Whatever the invoice calls it, it is held against what the ledger has of that model."""
    assert NAMES.meant(plain_name(written), frozenset({charged})) == meant


def test_lines_under_several_names_are_added_up() -> None:
    """They are one model, with the names that it has there."""
    text = f"model,amount_usd\nSDXL,1.00\n{SDXL}:{VERSION},2.000\n{VERSION},0.5\na/b,1\n"
    rows = [row(3_500_000_000, model=SDXL)]
    found = {one.model: one for one in compare(rows, read_invoice(text).amounts, HALF, NAMES)}
    assert found.keys() == {SDXL, "a/b"}
    assert found[SDXL].verdict is Verdict.AGREES
    assert found[SDXL].invoice == 3_500_000_000
    assert found[SDXL].called == (VERSION, "sdxl")
    assert found["a/b"].called == ()


@pytest.mark.parametrize("written", [":", "https://replicate.com/", " / "])
def test_what_names_nothing(written: str) -> None:
    """Is told by its line."""
    with pytest.raises(InvoiceError, match="line 2: "):
        read_invoice(f"model,amount_usd\n{written},1\n")
