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
from bench.variants import Variant, VariantError, describe
from mediagate_server.structs import replace

_OUT = Path(".build/bench")
_SAVED_MESSAGE = "\nAll of it: {}"


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="shorter measurements, fewer of them")
    add("--settings", metavar="'A=1 B=2'", help="settings of the server that is measured")
    add("--store", type=_count, metavar="N", help="generations in the large store")
    compare = parser.add_argument_group("compare two servers in paired, shuffled rounds")
    add = compare.add_argument
    add("--against", metavar="WHAT", help="another checkout: a folder, or a git revision")
    add("--against-settings", metavar="'A=1 B=2'", help="settings of the other side")
    add("--against-python", metavar="PATH", help="the interpreter that runs the other side")
    add("--rounds", type=_count, help="how many")
    add("--rows", nargs="+", choices=NAMES, metavar="ROW", help=f"of {', '.join(NAMES)}")
    add("--seed", type=int, help="of the order")
    add("--fail-if-worse", action="store_true", help="exit with 1 where a row is worse")
    options = parser.parse_args(words)
    given = (options.against, options.against_settings, options.against_python)
    options.compare = any(value is not None for value in given)
    if not options.compare and (options.rows or options.rounds or options.fail_if_worse):
        parser.error("rows, rounds and --fail-if-worse are a comparison's: say --against what")
    run_size = QUICK if options.quick else FULL
    options.extent = replace(
        run_size,
        rounds=options.rounds or run_size.rounds,
        stores=(run_size.stores[0], options.store or run_size.stores[1]),
    )
    if options.fail_if_worse and options.extent.rounds < LEAST_ROUNDS:
        parser.error(f"nothing can be worse in fewer than {LEAST_ROUNDS} rounds")
    return options


def main(words: Sequence[str]) -> int:
    """Measure, print, write. 1 where something answered wrongly or is not there."""
    options = arguments(words)
    if shutil.which("h2load") is None:
        print("h2load is missing: on Debian it comes with nghttp2-client.", file=sys.stderr)
        return 1
    try:
        return (
            _compare(options, options.extent)
            if options.compare
            else _measure(options, options.extent)
        )
    except (VariantError, NotServing) as error:
        print(error, file=sys.stderr)
        return 1
    except WrongResponse as wrong:
        print(f"No figures, for something did not work: {wrong}", file=sys.stderr)
        return 1


def _measure(options: argparse.Namespace, run_size: RunSize) -> int:
    """Measure the server against the echo server and the baseline gateway."""
    variant = Variant.of("this", None, None, options.settings)
    with _servers(variant) as (servers, bench):
        results = BenchRun(run_size, servers, bench).measure_all()
        document = report.document(
            results, **_run(options, servers.cores), variant=variant.document()
        )
    path = _save(document)
    print(describe(document["side"]))
    print("\n".join(report.table(results)))
    print(_SAVED_MESSAGE.format(path))
    return 0


def _compare(options: argparse.Namespace, run_size: RunSize) -> int:
    """One side against another."""
    variants = (
        Variant.of("this", None, None, options.settings),
        Variant.of("against", options.against, options.against_python, options.against_settings),
    )
    seed = SystemRandom().randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}", file=sys.stderr)
    with _servers(variants[0]) as (servers, bench):
        store = StoreBench(servers, bench, run_size.unary_seconds, run_size.unfinished)
        rows = options.rows or NAMES
        comparison = Rounds(variants, bench, store, run_size, rows, seed).run(run_size.rounds)
        run = _run(options, servers.cores) | {"seed": seed, "rounds": run_size.rounds}
    document = comparison_report.document(
        comparison, [variant.document() for variant in variants], run
    )
    path = _save(document)
    print("\n".join(comparison_report.table(comparison, document)))
    print(_SAVED_MESSAGE.format(path))
    worse = any(value.verdict is Verdict.WORSE for value in comparison.compared())
    return 1 if comparison.failed or (worse and options.fail_if_worse) else 0


def _count(word: str) -> int:
    count = int(word)
    if count < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return count


@contextmanager
def _servers(variant: Variant) -> Iterator[tuple[ServersUnderTest, Bench]]:
    """The upstream that runs, cores and a folder; nothing of it is left."""
    cores = Cores.here()
    cores.take_load_core()
    _OUT.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix="run-", dir=_OUT)).resolve()
    try:
        with running("upstream", python("bench.fast_upstream"), folder) as upstream:
            control = UpstreamControl(upstream.address)
            yield (
                ServersUnderTest(cores, folder, control.url, variant),
                Bench(control, upstream, folder),
            )
    finally:
        shutil.rmtree(folder)


def _run(options: argparse.Namespace, cores: Cores) -> dict[str, Any]:
    return {
        "extent": "quick" if options.quick else "full",
        "cores": {"server": cores.server, "load": cores.load},
    }


def _save(document: Any) -> Path:
    path = _OUT / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
