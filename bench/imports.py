"""Import speed: 50,000 rows × 40 columns into SQLite, beside pandas.read_excel(openpyxl) + to_sql.

Each run is a process of its own, the two in turn, so that both see the same machine. Peak memory is what the kernel
counted: for Callboard the worker's peak plus that of the process which parses, though the two do not coincide.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROWS, COLUMNS = 50_000, 40
ROUNDS = 3
#: part of the file name: raise it when the content changes
VERSION = 1
HEADER = [f"c{index}" for index in range(COLUMNS)]
#: what each column holds, in turn
KINDS = ("integer", "text", "text", "integer", "number", "text", "date", "boolean")


def run(rounds: int = ROUNDS, rows: int = ROWS) -> dict[str, Any]:
    """Measure both; gives the ratios first (above 1: Callboard is better)."""
    workbook = _workbook(rows)
    runs: dict[str, list[dict[str, float]]] = {"callboard": [], "pandas_openpyxl": []}
    for _ in range(rounds):
        for name, results in runs.items():
            results.append(_child(name, workbook))
    median = {
        name: {key: statistics.median(result[key] for result in results) for key in ("seconds", "peak_mib")}
        for name, results in runs.items()
    }
    ours, theirs = median["callboard"], median["pandas_openpyxl"]
    return {
        "time_ratio": round(theirs["seconds"] / ours["seconds"], 2),
        "peak_memory_ratio": round(theirs["peak_mib"] / ours["peak_mib"], 2),
        "rows": rows,
        "columns": COLUMNS,
        "rounds": rounds,
        "callboard": ours,
        "pandas_openpyxl": theirs,
        "runs": runs,
    }


def _child(name: str, workbook: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="callboard-bench-") as folder:
        command = [sys.executable, "-m", "bench.imports", "--measure", name, str(workbook), folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        result: dict[str, float] = json.loads(done.stdout)
        return result


def _measure(prepare: Callable[[Path, Path], Callable[[], int]], workbook: Path, folder: Path) -> dict[str, float]:
    # Loading modules and making the schema happen once in the life of a worker, so they are not timed for either.
    work = prepare(workbook, folder)
    started = time.perf_counter()
    rows = work()
    seconds = time.perf_counter() - started
    kib = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"rows": rows, "seconds": round(seconds, 3), "peak_mib": round(kib / 1024, 1)}


def _callboard(workbook: Path, folder: Path) -> Callable[[], int]:
    """The job as a worker runs it, from the stored file to the result."""
    from services.workers.families.imports.contract import ExcelImport
    from services.workers.families.imports.handler import FamilyRun
    from services.workers.families.imports.settings import ImportSettings
    from shared.config import Settings
    from shared.context import JobContext
    from shared.database.migrate import upgrade
    from shared.engine.engine import LeaseStatus
    from shared.storage import open_storage

    class Port:
        """Takes reports as the queue would."""

        def progress(self, *_: Any) -> LeaseStatus:
            return LeaseStatus.HELD

        lease_status = save_checkpoint = progress

        def log(self, *_: Any) -> None: ...

        def load_checkpoint(self, _job_id: str) -> None: ...

        def results(self, _job_id: str) -> dict[str, Any]:
            return {}

    (folder / "wide.py").write_text(
        "from shared.database.datasets import Column, ColumnType, Dataset\n"
        "DATASETS = [Dataset('wide', tuple(Column(name, ColumnType(kind), nullable=name != 'c0') for name, kind in "
        f"{list(zip(HEADER, _kinds(), strict=True))!r}), key=('c0',), create=True)]\n"
    )
    settings = Settings.model_validate({"data_dir": folder, "datasets_path": folder / "wide.py"})
    upgrade(settings)
    with workbook.open("rb") as file:
        file_id = open_storage(settings).save(file, name=workbook.name).id
    payload = ExcelImport(file_id=file_id, dataset="wide")
    family = FamilyRun(settings, ImportSettings())
    return lambda: int(family.excel(payload, JobContext(Port(), job_id="bench.1"))["inserted"])


def _pandas_openpyxl(workbook: Path, folder: Path) -> Callable[[], int]:
    import openpyxl  # noqa: F401 - loaded by pandas otherwise, within the time
    import pandas as pd
    import sqlalchemy as sa

    engine = sa.create_engine(f"sqlite:///{folder / 'pandas.db'}")

    def work() -> int:
        frame = pd.read_excel(workbook, engine="openpyxl")
        frame.to_sql("wide", engine, index=False)
        engine.dispose()
        return len(frame)

    return work


def _workbook(rows: int) -> Path:
    path = Path(tempfile.gettempdir()) / "callboard-bench" / f"wide-{rows}x{COLUMNS}-v{VERSION}.xlsx"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        # In a process of its own: what starts a process passes its peak memory on to it, as far as the kernel counts.
        subprocess.run([sys.executable, "-m", "bench.imports", "--generate", str(path), str(rows)], check=True)
    return path


def _generate(path: Path, rows: int) -> None:
    from openpyxl import Workbook

    random.seed(7)
    words = [f"word{number}" for number in range(5_000)]
    start = dt.date(2015, 1, 1)
    makers: dict[str, Callable[[], Any]] = {
        "integer": lambda: random.randint(0, 1_000_000),
        "number": lambda: random.random() * 1_000,
        "text": lambda: " ".join(random.choices(words, k=3)),
        "date": lambda: start + dt.timedelta(days=random.randint(0, 3_650)),
        "boolean": lambda: random.random() < 0.5,
    }
    row_makers = [makers[kind] for kind in _kinds()]
    # Shared strings, as Excel itself writes them.
    book = Workbook(write_only=True)
    sheet = book.create_sheet("Data")
    sheet.append(HEADER)
    for number in range(rows):
        sheet.append([number, *(make() for make in row_makers[1:])])
    part = path.with_suffix(".part")
    book.save(part)
    part.rename(path)


def _kinds() -> list[str]:
    return [KINDS[index % len(KINDS)] for index in range(COLUMNS)]


def _print(figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"time: {figures['time_ratio']}×   peak memory: {figures['peak_memory_ratio']}×   (above 1: better)")
    table = Table(title=f"{figures['rows']:,} rows × {figures['columns']} columns, median of {figures['rounds']}")
    for column in ("", "seconds", "rows/s", "peak MiB"):
        table.add_column(column, justify="right" if column else "left")
    for name in ("callboard", "pandas_openpyxl"):
        seconds, peak = figures[name]["seconds"], figures[name]["peak_mib"]
        table.add_row(name, f"{seconds:.2f}", f"{figures['rows'] / seconds:,.0f}", f"{peak:.0f}")
    console.print(table)


def main() -> None:
    """Measure and print, or do a part of it in a child process."""
    parser = argparse.ArgumentParser(prog="python -m bench.imports", description=__doc__)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--generate", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, workbook, folder = options.measure
        what = {"callboard": _callboard, "pandas_openpyxl": _pandas_openpyxl}[name]
        print(json.dumps(_measure(what, Path(workbook), Path(folder))))
        return
    if options.generate:
        _generate(Path(options.generate[0]), int(options.generate[1]))
        return
    figures = run(options.rounds, options.rows)
    _print(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
