"""``python -m bench``: everything, ratios first, as a table and as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import bench.imports as imports
from bench import queues

#: figures of which less is better
LESS_IS_BETTER = ("ms", "calls", "bytes", "cpu", "us")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("bench-results.json"), help="where the figures go")
    parser.add_argument("--rounds", type=int, default=queues.ROUNDS, help="the median of so many is taken")
    parser.add_argument("--only", choices=["queues", "imports"], help="measure just this part")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "python": sys.version}
    results["machine"] = platform.machine()
    console = Console(width=120)
    if options.only != "imports":
        results["queues"] = queues.run(options.rounds)
        console.print(_table(results["queues"]))
    if options.only != "queues":
        results["imports"] = imports.run()
        console.print_json(json.dumps(results["imports"]))
    options.json.write_text(json.dumps(results, indent=2))
    console.print(f"written to {options.json}")
    return 0


def _table(figures: dict[str, Any]) -> Table:
    table = Table(title="Callboard and stock Dramatiq, one server, one run; ratio > 1: Callboard is better")
    table.add_column("measurement")
    table.add_column("figure")
    for column in ("ratio", "callboard", "dramatiq"):
        table.add_column(column, justify="right")
    for name, figure, ours, theirs in queues.rows(figures):
        less = any(part in figure.split("_") for part in LESS_IS_BETTER)
        ratio = (theirs / ours if less else ours / theirs) if ours and theirs else float("nan")
        table.add_row(name, figure, f"{ratio:.2f}", f"{ours:,.2f}", f"{theirs:,.2f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
