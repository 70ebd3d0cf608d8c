"""What a comparison found, for people and for programs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bench.comparison import Compared, Comparison
from bench.ratio import CONFIDENCE
from bench.variants import described


def document(
    found: Comparison, sides: Sequence[Mapping[str, Any]], run: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything, as JSON takes it. `run`: how it was measured."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **run,
        "load_average": os.getloadavg(),
        "sides": [dict(side) for side in sides],
        "confidence": CONFIDENCE,
        "rows": [_row(one) for one in found.compared()],
        "failed": dict(found.failed),
        "samples": {
            row: [{"this": dict(this), "against": dict(other)} for this, other in pairs]
            for row, pairs in found.pairs.items()
        },
    }


def _row(one: Compared) -> dict[str, Any]:
    ratio = asdict(one.ratio)
    if not one.ratio.bounded:  # JSON knows no infinity.
        ratio |= {"low": None, "high": None}
    return {
        "row": one.row,
        "figure": one.figure,
        "lower_is_better": one.lower_is_better,
        **ratio,
        "verdict": one.verdict,
    }


def table(found: Comparison, document: Mapping[str, Any]) -> Iterator[str]:
    """The lines to be printed."""
    for side in document["sides"]:
        yield f"{side['name'] + ':':<9}{described(side)}"
    yield f"{document['rounds']} rounds, seed {document['seed']}; ratio = this / against"
    yield ""
    yield f"{'row':<15}{'figure':<19}{'better':<8}{'ratio':>7}  {'95 % interval':<17}verdict"
    for one in found.compared():
        better = "less" if one.lower_is_better else "more"
        ratio = one.ratio
        interval = f"{ratio.low:.3f} to {ratio.high:.3f}" if ratio.bounded else "-"
        yield (
            f"{one.row:<15}{one.figure:<19}{better:<8}{ratio.value:>7.3f}  {interval:<17}"
            f"{one.verdict}"
        )
    for row, why in found.failed.items():
        yield f"{row:<15}no figure, for something did not work: {why}"
    yield ""
    yield "Of verdicts where nothing differs, one in twenty is wrong: repeat what surprises."
