"""``python -m bench``: everything, ratios first, as tables and as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import contest, imports, queues, report, scale
from bench.peer import PEERS

#: what --quick divides the numbers of jobs by
QUICK = 10


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; gives 1 when a measurement failed."""
    options = _parse(arguments)
    # Ended like that as well, it takes its servers and workers along.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    results: dict[str, Any] = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "python": sys.version}
    results["machine"] = platform.machine()
    # Wide enough for the tables, also where the output is a file.
    console = Console(width=max(150, Console().width))
    failures: list[str] = []
    if options.only in (None, "queues"):
        results["queues"] = queues.run(options.rounds)
        console.print(report.queues_table(results["queues"]))
    if options.only in (None, "peers"):
        outcome = contest.run(options.rounds, options.peer, console, QUICK if options.quick else 1)
        results["peers"], failures = outcome.as_json(), outcome.failures
        for table in (report.promises_table(outcome), *report.measurement_tables(outcome)):
            console.print(table)
    if options.only in (None, "scale"):
        results["scale"] = scale.run()
        for table in scale.tables(results["scale"]):
            console.print(table)
    if options.only in (None, "imports"):
        results["imports"] = imports.run()
        console.print_json(json.dumps(results["imports"]))
    options.json.write_text(json.dumps(results, indent=2))
    console.print(f"written to {options.json}")
    return 1 if failures else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("bench-results.json"), help="where the figures go")
    parser.add_argument("--rounds", type=int, default=queues.ROUNDS, help="the median of so many is taken")
    parser.add_argument("--only", choices=["queues", "peers", "scale", "imports"], help="measure just this part")
    parser.add_argument("--quick", action="store_true", help="peers: a tenth of the jobs, to see that all of them run")
    names = [peer.name for peer in PEERS]
    parser.add_argument("--peer", nargs="+", choices=names, metavar="NAME", help=f"just these: {', '.join(names)}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
