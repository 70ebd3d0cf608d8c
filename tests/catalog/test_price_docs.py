"""docs/prices.md names every price that is assumed and every one that is old, and no other."""

import re
from datetime import date
from pathlib import Path

from mediagate_server.catalog.drift import age_in_days
from mediagate_server.catalog.models.model import ModelStatus
from tests.catalog.builders import shipped_catalog

PAGE = (Path(__file__).parents[2] / "docs" / "prices.md").read_text()
AS_OF = date.fromisoformat(re.findall(r"as of (\d{4}-\d\d-\d\d)", PAGE)[0])
OLD_DAYS = 180
LIVE = [model for model in shipped_catalog().models() if model.status is ModelStatus.LIVE]


def listed(section: str) -> dict[str, str]:
    """The models of a section's table, and their rows."""
    text = PAGE[PAGE.index(f"\n## {section}\n") :].split("\n## ")[1]
    rows = [line for line in text.splitlines() if re.match(r"\| \S+/\S+ \|", line)]
    return {row.split("|")[1].strip(): row for row in rows}


def test_assumed_prices_are_listed() -> None:
    """With what is assumed, the longest run's cost, and why."""
    rows = listed("Assumed")
    assumed = {model.slug: model for model in LIVE if model.price.assumed}
    assert rows.keys() == assumed.keys()
    for slug, model in assumed.items():
        assert model.price.source.removeprefix("assumed: ") in rows[slug]
        assert all(f"${rate.usd} " in rows[slug] for t in model.price.tiers for rate in t.rates)
        if "predict_time" in model.expects:
            most = model.price.tiers[0].rates[0].usd * model.max_run
            assert f"| ${most.normalize():f} |" in rows[slug]


def test_old_prices_are_listed() -> None:
    """Older than half a year on the day of the page; what is assumed is in the other table."""
    old = {
        model.slug
        for model in LIVE
        if not model.price.assumed and age_in_days(model.price.as_of, AS_OF) > OLD_DAYS
    }
    assert listed("Old").keys() == old
