"""What a comparison found, for people and for programs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bench.comparison import Compared, Comparison
from bench.ratio import CONFIDENCE
from bench.variants import describe


def document(
    comparison: Comparison, variants: Sequence[Mapping[str, Any]], run: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything, as JSON takes it. `run`: how it was measured."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **run,
        "load_average": os.getloadavg(),
        "sides": [dict(variant) for variant in variants],
        "confidence": CONFIDENCE,
        "rows": [_row(result) for result in comparison.compared()],
        "failed": dict(comparison.failed),
        "samples": {
            row: [{"this": dict(this), "against": dict(other)} for this, other in pairs]
            for row, pairs in comparison.pairs.items()
        },
    }


def _row(result: Compared) -> dict[str, Any]:
    ratio = asdict(result.ratio)
    if not result.ratio.bounded:  # JSON knows no infinity.
        ratio |= {"low": None, "high": None}
    return {
        "row": result.row,
        "figure": result.figure,
        "lower_is_better": result.lower_is_better,
        **ratio,
        "verdict": result.verdict,
    }


def table(comparison: Comparison, document: Mapping[str, Any]) -> Iterator[str]:
    """The lines to be printed."""
    for variant in document["sides"]:
        yield f"{variant['name'] + ':':<9}{describe(variant)}"
    yield f"{document['rounds']} rounds, seed {document['seed']}; ratio = this / against"
    yield ""
    yield f"{'row':<15}{'figure':<19}{'better':<8}{'ratio':>7}  {'95 % interval':<17}verdict"
    for result in comparison.compared():
        better = "less" if result.lower_is_better else "more"
        ratio = result.ratio
        interval = f"{ratio.low:.3f} to {ratio.high:.3f}" if ratio.bounded else "-"
        yield (
            f"{result.row:<15}{result.figure:<19}{better:<8}{ratio.value:>7.3f}  {interval:<17}"
            f"{result.verdict}"
        )
    for row, why in comparison.failed.items():
        yield f"{row:<15}no figure, for something did not work: {why}"
    yield ""
    yield "Of verdicts where nothing differs, one in twenty is wrong: repeat what surprises."
