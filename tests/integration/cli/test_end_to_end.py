"""``callboard import`` from a file on the disk to rows in the database: real API, real worker, real queue server."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import openpyxl
import pytest

from tests.integration.cli.conftest import ROOT, ApiServer, CommandLine
from tests.servers import PATIENCE_S, ValkeyServer

pytestmark = [pytest.mark.needs_server, pytest.mark.slow]


@pytest.fixture(scope="module")
def whole(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API with a database and a worker behind it."""
    folder = tmp_path_factory.mktemp("whole")
    server = ApiServer(valkey, f"t{os.urandom(6).hex()}", folder)
    subprocess.run([sys.executable, "-m", "shared.database.migrate"], cwd=ROOT, env=server.env, check=True)
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "dramatiq", "services.workers.main", "--processes", "1", "--threads", "2"],
            cwd=ROOT,
            env=server.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    yield server
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait(timeout=PATIENCE_S)
    server.stop()


@pytest.fixture
def callboard(whole: ApiServer, make_cli: Callable[[dict[str, str]], CommandLine]) -> CommandLine:
    return make_cli(whole.env)


def database(whole: ApiServer) -> dict[str, str]:
    """Read the terms that are in the database."""
    with sqlite3.connect(Path(whole.env["CALLBOARD_DATA_DIR"]) / "callboard.db") as connection:
        rows = dict(connection.execute("SELECT term, definition FROM terms").fetchall())
    connection.close()
    return rows


def test_a_workbook(callboard: CommandLine, whole: ApiServer, tmp_path: Path) -> None:
    workbook = openpyxl.Workbook()
    sheet = workbook.create_sheet("Words")
    sheet.append(["Term", "Meaning"])
    sheet.append(["one", "1"])
    sheet.append(["", "no term"])
    sheet.append(["two", "2"])
    workbook.save(tmp_path / "words.xlsx")
    ran = callboard(
        *(
            "import",
            str(tmp_path / "words.xlsx"),
            "--sheet",
            "Words",
            "--map",
            "Meaning=definition",
            "--report",
            "--json",
        )
    )
    assert (ran.code, ran.err) == (0, "")
    result = ran.document["result"]
    assert {name: result[name] for name in ("read", "inserted", "rejected")} == {
        "read": 3,
        "inserted": 2,
        "rejected": 1,
    }
    assert database(whole) == {"one": "1", "two": "2"}
    assert ran.document["report_path"] == str(tmp_path / "words-rejects.csv")
    assert (tmp_path / "words-rejects.csv").read_text("utf-8-sig").splitlines()[1].startswith("3,term,")


@pytest.mark.parametrize(
    ("name", "content", "arguments", "told"),
    [
        ("empty.xlsx", b"", (), "empty"),
        ("not.xlsx", b"\x00\x01\x02 this is no workbook", (), "not"),
        ("a.csv", b"term,definition\na,b\n", ("--dataset", "nope"), "There is no dataset 'nope'"),
        ("b.csv", b"something\nelse\n", (), "term"),
        ("c.csv", b"term,definition\n,b\n", ("--on-error", "fail"), "Row 2"),
    ],
)
def test_files_that_cannot_be_imported(
    callboard: CommandLine, tmp_path: Path, name: str, content: bytes, arguments: tuple[str, ...], told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    ran = callboard("import", str(tmp_path / name), *arguments)
    assert (ran.code, ran.out) == (1, "")
    last = ran.err.splitlines()[-1]
    assert last.startswith("callboard: job excel-import.")
    assert told in last


def test_too_many_rejects_come_with_their_report(callboard: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("term,definition\n,b\n,c\n")
    report = tmp_path / "why.csv"
    ran = callboard("import", str(tmp_path / "bad.csv"), "--max-rejects", "1", "--report", str(report))
    assert ran.code == 1
    assert "max_rejects" in ran.err
    assert len(report.read_text("utf-8-sig").splitlines()) == 3
