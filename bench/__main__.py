"""python -m bench [--quick]: measure everything in one run, print the table, keep the JSON."""

import argparse
import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp

from bench import report
from bench.contenders import Stage
from bench.control import Control
from bench.extent import FULL, QUICK
from bench.measuring import Bench, WrongAnswer
from bench.processes import Cores, python, running
from bench.session import Session

_OUT = Path(".build/bench")


def main() -> int:
    """Measure, print, write. 1 where something answered wrongly or is not there."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute or two, fewer figures")
    quick = parser.parse_args().quick
    if shutil.which("h2load") is None:
        print("h2load is missing: on Debian it comes with nghttp2-client.", file=sys.stderr)
        return 1
    cores = Cores.here()
    cores.take_load_core()
    _OUT.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix="run-", dir=_OUT)).resolve()
    try:
        with running("upstream", python("bench.upstream"), folder) as upstream:
            control = Control(upstream.address)
            stage = Stage(cores, folder, control.url)
            session = Session(QUICK if quick else FULL, stage, Bench(control, upstream, folder))
            results = session.measure_all()
    except WrongAnswer as wrong:
        print(f"No figures, for something did not work: {wrong}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder)
    kept = _OUT / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    told = report.document(
        results,
        extent="quick" if quick else "full",
        cores={"server": cores.server, "load": cores.load},
    )
    kept.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print("\n".join(report.table(results)))
    print(f"\nAll of it: {kept}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
