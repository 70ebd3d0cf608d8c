"""python -m bench: measure everything in one run, or compare two sides; print it, keep the JSON."""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import SystemRandom
from tempfile import mkdtemp
from typing import Any

from bench import comparison_report, report
from bench.bench_run import BenchRun
from bench.comparison import Rounds
from bench.comparison_rows import NAMES
from bench.measurements import Bench, WrongResponse
from bench.ratio import LEAST_ROUNDS, Verdict
from bench.run_size import FULL, QUICK, RunSize
from bench.server_processes import Cores, NotServing, python, running
from bench.servers_under_test import ServersUnderTest
from bench.store_bench import StoreBench
from bench.upstream_control import UpstreamControl
from bench.variants import Variant, VariantError, described
from mediagate_server.structs import replace

_OUT = Path(".build/bench")
_KEPT = "\nAll of it: {}"


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="shorter measurements, fewer of them")
    add("--settings", metavar="'A=1 B=2'", help="settings of the gate that is measured")
    add("--store", type=_count, metavar="N", help="generations in the large store")
    compare = parser.add_argument_group("compare two gates in paired, shuffled rounds")
    add = compare.add_argument
    add("--against", metavar="WHAT", help="another checkout: a folder, or a git revision")
    add("--against-settings", metavar="'A=1 B=2'", help="settings of the other side")
    add("--against-python", metavar="PATH", help="the interpreter that runs the other side")
    add("--rounds", type=_count, help="how many")
    add("--rows", nargs="+", choices=NAMES, metavar="ROW", help=f"of {', '.join(NAMES)}")
    add("--seed", type=int, help="of the order")
    add("--fail-if-worse", action="store_true", help="exit with 1 where a row is worse")
    asked = parser.parse_args(words)
    given = (asked.against, asked.against_settings, asked.against_python)
    asked.compare = any(one is not None for one in given)
    if not asked.compare and (asked.rows or asked.rounds or asked.fail_if_worse):
        parser.error("rows, rounds and --fail-if-worse are a comparison's: say --against what")
    extent = QUICK if asked.quick else FULL
    asked.extent = replace(
        extent,
        rounds=asked.rounds or extent.rounds,
        stores=(extent.stores[0], asked.store or extent.stores[1]),
    )
    if asked.fail_if_worse and asked.extent.rounds < LEAST_ROUNDS:
        parser.error(f"nothing can be worse in fewer than {LEAST_ROUNDS} rounds")
    return asked


def main(words: Sequence[str]) -> int:
    """Measure, print, write. 1 where something answered wrongly or is not there."""
    asked = arguments(words)
    if shutil.which("h2load") is None:
        print("h2load is missing: on Debian it comes with nghttp2-client.", file=sys.stderr)
        return 1
    try:
        return _compare(asked, asked.extent) if asked.compare else _measure(asked, asked.extent)
    except (VariantError, NotServing) as error:
        print(error, file=sys.stderr)
        return 1
    except WrongResponse as wrong:
        print(f"No figures, for something did not work: {wrong}", file=sys.stderr)
        return 1


def _measure(asked: argparse.Namespace, extent: RunSize) -> int:
    """The gate against the floor and an average gateway."""
    side = Variant.of("this", None, None, asked.settings)
    with _stage(side) as (stage, bench):
        results = BenchRun(extent, stage, bench).measure_all()
        told = report.document(results, **_run(asked, stage.cores), side=side.document())
    kept = _keep(told)
    print(described(told["side"]))
    print("\n".join(report.table(results)))
    print(_KEPT.format(kept))
    return 0


def _compare(asked: argparse.Namespace, extent: RunSize) -> int:
    """One side against another."""
    sides = (
        Variant.of("this", None, None, asked.settings),
        Variant.of("against", asked.against, asked.against_python, asked.against_settings),
    )
    seed = SystemRandom().randrange(2**32) if asked.seed is None else asked.seed
    print(f"seed {seed}", file=sys.stderr)
    with _stage(sides[0]) as (stage, bench):
        store = StoreBench(stage, bench, extent.unary_seconds, extent.unfinished)
        rows = asked.rows or NAMES
        found = Rounds(sides, bench, store, extent, rows, seed).run(extent.rounds)
        run = _run(asked, stage.cores) | {"seed": seed, "rounds": extent.rounds}
    told = comparison_report.document(found, [side.document() for side in sides], run)
    kept = _keep(told)
    print("\n".join(comparison_report.table(found, told)))
    print(_KEPT.format(kept))
    worse = any(one.verdict is Verdict.WORSE for one in found.compared())
    return 1 if found.failed or (worse and asked.fail_if_worse) else 0


def _count(word: str) -> int:
    count = int(word)
    if count < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return count


@contextmanager
def _stage(side: Variant) -> Iterator[tuple[ServersUnderTest, Bench]]:
    """The upstream that runs, cores and a folder; nothing of it is left."""
    cores = Cores.here()
    cores.take_load_core()
    _OUT.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix="run-", dir=_OUT)).resolve()
    try:
        with running("upstream", python("bench.fast_upstream"), folder) as upstream:
            control = UpstreamControl(upstream.address)
            yield (
                ServersUnderTest(cores, folder, control.url, side),
                Bench(control, upstream, folder),
            )
    finally:
        shutil.rmtree(folder)


def _run(asked: argparse.Namespace, cores: Cores) -> dict[str, Any]:
    return {
        "extent": "quick" if asked.quick else "full",
        "cores": {"server": cores.server, "load": cores.load},
    }


def _keep(told: Any) -> Path:
    kept = _OUT / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    kept.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return kept


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
