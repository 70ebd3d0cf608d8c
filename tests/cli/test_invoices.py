"""Invoices as they are read, and held against the ledger: pure parts."""

import csv
import io
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate.v1.usage_pb2 import UsageTotal
from mediagate_cli.invoice_comparison import ComparisonVerdict, Difference, compare_invoice
from mediagate_cli.invoices import InvoiceAmount, InvoiceError, read_invoice

names = st.from_regex(r"[a-z][a-z0-9.-]{0,9}/[a-z][a-z0-9.-]{0,9}", fullmatch=True)
sums = st.decimals("-1000000", "1000000", places=4)
HALF = Decimal("0.5")


def total(nanos: int, model: str = "a/b") -> UsageTotal:
    """What one model was charged."""
    return UsageTotal(model=model, settled_usd_nanos=nanos)


def only(nanos: int | None, usd: str | None, tolerance: Decimal = HALF) -> Difference:
    """The comparison of one model, without rounding."""
    totals = [] if nanos is None else [total(nanos)]
    amounts = {} if usd is None else {"a/b": InvoiceAmount(Decimal(usd) * 10**9, Decimal(0))}
    (differences,) = compare_invoice(totals, amounts, tolerance, {})
    return differences


@given(st.lists(st.tuples(names, sums), min_size=1), st.sampled_from(["csv", "json"]))
def test_amounts_are_read_exactly(lines: list[tuple[str, Decimal]], form: str) -> None:
    """To the last digit, in either shape; lines of a model are added up."""
    if form == "csv":
        file = io.StringIO()
        csv.writer(file).writerows([("model", "amount_usd"), *lines])
        text = file.getvalue()
    else:
        text = json.dumps([{"model": model, "amount_usd": str(usd)} for model, usd in lines])
    read = read_invoice(text)
    assert read.month == ""
    assert read.amounts.keys() == {model for model, _ in lines}
    for model, amount in read.amounts.items():
        mine = [usd for name, usd in lines if name == model]
        assert amount == InvoiceAmount(sum(mine, Decimal(0)) * 10**9, Decimal(len(mine) * 50_000))


@given(st.lists(sums.map(float), min_size=1))
def test_rounding_tolerance_is_half_a_cent_per_line(amounts: list[float]) -> None:
    """However few places a number of JSON shows: there, $1.10 is 1.1, and $0.00 is 0 or 0.0."""
    for form in (float, str, lambda usd: int(usd) if usd.is_integer() else usd):
        lines = [{"model": "a/b", "amount_usd": form(usd)} for usd in amounts]
        (amount,) = read_invoice(json.dumps(lines)).amounts.values()
        assert amount.slack <= len(amounts) * 5_000_000


@pytest.mark.parametrize("lines", [[0.0], [0], ["0"], [0.0, 0.0, 0.0, 0.1]])
def test_an_unbilled_model_differs(lines: list[object]) -> None:
    """Zero does not agree with what the ledger has, be it written with one place or with none."""
    text = json.dumps([{"model": "a/b", "amount_usd": usd} for usd in lines])
    (differences,) = compare_invoice([total(15_000_000)], read_invoice(text).amounts, HALF, {})
    assert differences.verdict is ComparisonVerdict.DIFFERS


def test_spreadsheet_exports_are_read() -> None:
    """A byte order mark, lines' ends of Windows, quotes, an empty line; the month of all lines."""
    text = '\ufeffmodel,month,amount_usd\r\n"A/b:123",2026-10,-12.5\r\n\r\na/b,2026-10,0.123\r\n'
    read = read_invoice(text)
    assert read.month == "2026-10"
    assert read.amounts == {"a/b": InvoiceAmount(Decimal(-12_377_000_000), Decimal(5_500_000))}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: model is there 0 times"),
        ("model,amount_usd\n", "no lines"),
        ("[]", "no lines"),
        ("model,what\na/b,1\n", "line 1: 'what' is none of month, model, amount_usd"),
        ("model\na/b\n", "line 1: amount_usd is there 0 times"),
        ("model;amount_usd\na/b;1\n", "line 1: 'model;amount_usd' is none of"),
        ("model,amount_usd,Amount USD\na/b,1,2\n", "line 1: 'Amount USD' is none of"),
        ("model,model,amount_usd\na/b,c/d,2\n", "line 1: model is there 2 times"),
        ("model,amount_usd\n,1\n", "line 2: model '' is not the name"),
        ("model,amount_usd\n:,1\n", "line 2: model ':' is not the name"),
        ("model,amount_usd\nhttps://replicate.com/a/b,1\n", "line 2: model 'https:"),
        ("model,amount_usd\na/b,1\nc/d,1.2.3\n", "line 3: amount_usd '1.2.3' is not"),
        ("model,amount_usd\na/b\n", "line 2: it has 1 cells, the heading 2"),
        ("model,amount_usd\nc/d,1\na/b,0,015\n", "line 3: it has 3 cells, the heading 2"),
        ("amount_usd,model\n5\n", "line 2: it has 1 cells, the heading 2"),
        ('model,amount_usd\na/b,"0,015"\n', "line 2: amount_usd '0,015' is not"),
        ('model,amount_usd\na/b,"1,234.56"\n', "line 2: amount_usd '1,234.56' is not"),
        ('model,amount_usd\na/b,"1\n', "line 2: unexpected end of data"),
        (f'model,amount_usd\na/b,1\n"{"x" * 131_073}",1\n', "line 3: field larger than"),
        (f'"{"x" * 131_073}",amount_usd\n', "line 1: field larger than"),
        (f"model,amount_usd\na/b,{'x' * 99_999}\n", "line 2: amount_usd 'xxx"),
        ("model,amount_usd\na/b,NaN\n", "'NaN' is not"),
        ("model,amount_usd\na/b,-\n", "'-' is not"),
        ("model,amount_usd,month\na/b,1,2026-10\na/b,1,2026-11\n", "not all of one month"),
        (
            '[{"model": "a","amount_usd": 1}, {"model": "a", "amount_usd": 1, "month": "2026-10"}]',
            "not all of one month",
        ),
        ("model,amount_usd,month\na/b,1,October\n", "line 2: month 'October' is not a month"),
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deep"),
        ("{}", "no list of objects"),
        ("[[]]", "entry 1: it is no object"),
        (
            '[{"model": "a/b", "amount_usd": 1, "month": [[]]}]',
            "entry 1: month [[]] is not a month",
        ),
        ('[{"model": "a/b", "amount_usd": 1e999999999}]', "'1e999999999' is not"),
        (f'[{{"model": "a/b", "amount_usd": 1{"0" * 400}}}]', "entry 1: amount_usd '1000"),
        ('[{"model": "a/b", "amount_usd": true}]', "entry 1: amount_usd True is not"),
        ('[{"model": "a/b", "amount_usd": NaN}]', "entry 1: amount_usd nan is not"),
        ('[{"amount_usd": 1}]', "entry 1: model is there 0 times"),
        ('[{"model": "a/b", "amount_usd": 1, "amount_usd": 2}]', "amount_usd is there 2 times"),
    ],
)
def test_an_invalid_invoice_names_the_position(text: str, words: str) -> None:
    """In one line, with the place."""
    with pytest.raises(InvoiceError, match=r"^[^\n]+$") as raised:
        read_invoice(text)
    assert words in str(raised.value)
    assert len(str(raised.value)) < 200


def test_numbers_of_json_are_read_to_the_last_digit() -> None:
    """As they stand there."""
    for written, nanos in (
        ("123456789012345", 123456789012345 * 10**9),
        ("0.123456789", 123456789),
    ):
        read = read_invoice(f'[{{"model": "a/b", "amount_usd": {written}}}]')
        assert read.amounts["a/b"].nanos == nanos


def test_amounts_within_the_tolerance_agree() -> None:
    """Half a percent of the larger of the two, to the nano-dollar, either way."""
    assert only(10**12, "1005.025125628").verdict is ComparisonVerdict.AGREES
    assert only(10**12, "1005.025125629").verdict is ComparisonVerdict.DIFFERS
    assert only(10**12, "995").verdict is ComparisonVerdict.AGREES
    assert only(10**12, "994.999999999").verdict is ComparisonVerdict.DIFFERS
    assert only(1, "0.000000002", Decimal(0)).verdict is ComparisonVerdict.DIFFERS
    assert only(0, "0").verdict is ComparisonVerdict.AGREES


def test_rounding_is_not_a_difference() -> None:
    """A line of two places is true to half a cent, and not to more."""
    for usd, verdict in (("0.01", ComparisonVerdict.AGREES), ("0.02", ComparisonVerdict.DIFFERS)):
        amounts = read_invoice(f"model,amount_usd\na/b,{usd}\n").amounts
        (differences,) = compare_invoice([total(12_000_000)], amounts, HALF, {})
        assert differences.verdict is verdict


def test_models_of_one_side_only() -> None:
    """Is said."""
    assert only(5, None).verdict is ComparisonVerdict.NOT_ON_INVOICE
    foreign = only(None, "3")
    assert foreign.verdict is ComparisonVerdict.NOT_IN_LEDGER
    assert foreign.ledger == 0
    assert foreign.percent == Decimal(100)


@given(st.dictionaries(names, st.integers(1, 10**12), min_size=1), st.data())
def test_every_planted_drift_is_found_and_nothing_else(
    ledger: dict[str, int], data: st.DataObject
) -> None:
    """Some models are billed a percent more; exactly those differ, the largest first."""
    drifted = data.draw(st.sets(st.sampled_from(sorted(ledger))))
    totals = [total(nanos, f"{model}:v1") for model, nanos in ledger.items()]
    invoice = {
        model: InvoiceAmount(
            Decimal(nanos) * (Decimal("1.01") if model in drifted else 1), Decimal(0)
        )
        for model, nanos in ledger.items()
    }
    differences = compare_invoice(totals, invoice, HALF, {})
    assert {
        difference.model
        for difference in differences
        if difference.verdict is ComparisonVerdict.DIFFERS
    } == drifted
    sizes = [abs(difference.nanos) for difference in differences]
    assert sizes == sorted(sizes, reverse=True)


def test_lines_under_slug_and_alias_are_added_up() -> None:
    """They are one model; a name of the ledger's own is nobody's alias."""
    text = "model,amount_usd\nSDXL,1.00\nacme/sdxl:77,2.000\nacme/SDXL,0.5\na/b,1\nunheard,1\n"
    totals = [total(3_500_000_000, "acme/sdxl"), total(1_000_000_000)]
    aliases = {"sdxl": "acme/sdxl", "a/b": "acme/sdxl"}
    differences = {
        difference.model: difference
        for difference in compare_invoice(totals, read_invoice(text).amounts, HALF, aliases)
    }
    assert differences.keys() == {"acme/sdxl", "a/b", "unheard"}
    assert (
        differences["acme/sdxl"].verdict is differences["a/b"].verdict is ComparisonVerdict.AGREES
    )
    assert differences["acme/sdxl"].invoice == 3_500_000_000
    assert differences["unheard"].verdict is ComparisonVerdict.NOT_IN_LEDGER
