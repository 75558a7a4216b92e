"""A run that ends at any point is carried on by the next: no row is lost or doubled, and the counts say so."""

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from services.workers.families.imports import run as run_module
from services.workers.families.imports import writing
from services.workers.families.imports.checkpoint import CheckpointStore
from shared.errors import LeaseLost, PermanentError, RetryableError
from tests.families.imports import files
from tests.families.imports.harness import counts

HEADER = ["term", "definition", "year_introduced"]
#: ten rows in batches of two: known keys, keys that come twice within a batch and across, two rejects
ROWS: list[list[Any]] = [
    ["a", "1", 1950],
    ["b", "2", 1950],
    ["c", "3", "soon"],
    ["a", "4", 1951],
    ["d", "5", ""],
    ["d", "6", ""],
    ["known", "7", ""],
    ["", "8", ""],
    ["e", "9", ""],
    ["b", "10", ""],
]
STORED = "SELECT term, definition, year_introduced FROM terms ORDER BY term"


class Killed(BaseException):
    """The process ends here."""


def prepare(imports, tmp_path):
    imports.execute("DELETE FROM terms", "INSERT INTO terms (term, definition) VALUES ('known', 'old')")
    return imports.store(files.csv(tmp_path / "a.csv", [HEADER, *ROWS]))


def outcome(imports, result):
    report = imports.report(result["report_file_id"]) if result["report_file_id"] else []
    return counts(result), [(reject["row"], reject["column"]) for reject in report], imports.query(STORED)


def points(imports, monkeypatch, kill_at):
    """Count the points at which a run can end, and end it at one of them."""
    passed = 0

    def point():
        nonlocal passed
        passed += 1
        if passed == kill_at:
            raise Killed

    def around(owner, name):
        original = getattr(owner, name)

        def wrapped(*arguments, **options):
            point()
            result = original(*arguments, **options)
            point()
            return result

        monkeypatch.setattr(owner, name, wrapped)

    for owner, name in (
        (CheckpointStore, "claim"),
        (CheckpointStore, "fence"),
        (CheckpointStore, "save"),
        (CheckpointStore, "finish"),
        (writing.SqliteWriter, "write"),
        (writing.PostgresWriter, "write"),
        (run_module.ImportRun, "_write_whole"),
        (run_module, "store_report"),
    ):
        around(owner, name)
    return lambda: passed


@pytest.mark.slow
@pytest.mark.parametrize("conflict", ["update", "skip"])
def test_a_run_may_end_at_every_point(any_imports, tmp_path, conflict):
    file_id = prepare(any_imports, tmp_path)
    with pytest.MonkeyPatch.context() as monkeypatch:
        passed = points(any_imports, monkeypatch, kill_at=None)
        expected = outcome(any_imports, any_imports.stored(file_id, batch_size=2, conflict=conflict))
        total = passed()
    assert expected[0] == {"update": (10, 4, 4, 0, 2), "skip": (10, 4, 0, 4, 2)}[conflict]
    assert total > 30
    for kill_at in range(1, total + 1):
        prepare(any_imports, tmp_path)
        job_id = f"q.{kill_at}"
        with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(Killed):
            points(any_imports, monkeypatch, kill_at)
            any_imports.stored(file_id, batch_size=2, conflict=conflict, job=any_imports.job(job_id, 1))
        result = any_imports.stored(file_id, batch_size=2, conflict=conflict, job=any_imports.job(job_id, 2))
        assert outcome(any_imports, result) == expected, f"ended at point {kill_at}"
    assert any_imports.query("SELECT count(*) FROM import_rejects") == [(0,)]


def test_a_run_may_end_at_every_batch(any_imports, tmp_path):
    """Each run writes one batch and ends, as under a worker that dies again and again."""
    file_id = prepare(any_imports, tmp_path)
    expected = outcome(any_imports, any_imports.stored(file_id, batch_size=2))
    prepare(any_imports, tmp_path)
    for token in range(1, 6):
        with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(Killed):
            points(any_imports, monkeypatch, kill_at=11)
            any_imports.stored(file_id, batch_size=2, job=any_imports.job("q.x", token))
    result = any_imports.stored(file_id, batch_size=2, job=any_imports.job("q.x", 9))
    assert outcome(any_imports, result) == expected


def test_rows_of_a_request_are_carried_on(any_imports):
    rows = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
    options: dict[str, Any] = {"dataset": "terms", "batch_size": 3}
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(Killed):
        points(any_imports, monkeypatch, kill_at=12)
        any_imports.rows(rows, **options, job=any_imports.job("q.x", 1))
    result = any_imports.rows(rows, **options, job=any_imports.job("q.x", 2))
    assert counts(result) == (10, 5, 3, 0, 2)


def test_a_run_after_success_gives_the_same_result_and_writes_nothing(any_imports, tmp_path):
    file_id = prepare(any_imports, tmp_path)
    first = any_imports.stored(file_id, job=any_imports.job("q.x", 1))
    any_imports.execute("DELETE FROM terms")
    assert any_imports.stored(file_id, job=any_imports.job("q.x", 2)) == first
    assert any_imports.query("SELECT count(*) FROM terms") == [(0,)]


def test_an_import_that_failed_goes_on_when_its_reason_is_gone(any_imports, tmp_path):
    path = files.xlsx(tmp_path / "a.xlsx", [HEADER, ["a", "1", ""], ["b", "2", ""], ["known", "3", ""], ["c", "4", ""]])
    any_imports.execute("INSERT INTO terms (term, definition) VALUES ('known', 'old')")
    file_id = any_imports.store(path)
    with pytest.raises(PermanentError, match="is in 'terms' already"):
        any_imports.stored(file_id, batch_size=2, conflict="fail", job=any_imports.job("q.x", 1))
    any_imports.execute("DELETE FROM terms WHERE term = 'known'")
    result = any_imports.stored(file_id, batch_size=2, conflict="fail", job=any_imports.job("q.x", 2))
    assert counts(result) == (4, 4, 0, 0, 0)


def test_a_commit_whose_answer_is_lost_is_not_repeated(any_imports, tmp_path, monkeypatch):
    file_id = prepare(any_imports, tmp_path)
    expected = outcome(any_imports, any_imports.stored(file_id, batch_size=2))
    prepare(any_imports, tmp_path)
    original = run_module.ImportRun._write_whole
    commits = []

    def lost(self, *arguments):
        after = original(self, *arguments)
        commits.append(after)
        if len(commits) == 3:
            raise OperationalError("COMMIT", None, Exception("connection lost"))
        return after

    monkeypatch.setattr(run_module.ImportRun, "_write_whole", lost)
    with pytest.raises(RetryableError, match="connection lost"):
        any_imports.stored(file_id, batch_size=2, job=any_imports.job("q.x", 1))
    result = any_imports.stored(file_id, batch_size=2, job=any_imports.job("q.x", 2))
    assert outcome(any_imports, result) == expected


# -- fencing ----------------------------------------------------------------------------------------------------


def test_a_worker_that_lost_the_job_commits_nothing(any_imports, tmp_path, monkeypatch):
    """It is frozen before a batch, another finishes the job, and it wakes up."""
    file_id = prepare(any_imports, tmp_path)
    original = run_module.ImportRun._write_whole
    results: list[Any] = []

    def frozen(self, done, step, seconds):
        if step.last_row == 5 and not results:
            results.append(None)
            results[0] = any_imports.stored(file_id, batch_size=2, job=any_imports.job("q.x", 2))
            any_imports.execute("UPDATE terms SET definition = 'changed since' WHERE term = 'a'")
        return original(self, done, step, seconds)

    monkeypatch.setattr(run_module.ImportRun, "_write_whole", frozen)
    with pytest.raises(LeaseLost):
        any_imports.stored(file_id, batch_size=2, job=any_imports.job("q.x", 1))
    assert counts(results[0]) == (10, 4, 4, 0, 2)
    assert any_imports.query("SELECT definition FROM terms WHERE term = 'a'") == [("changed since",)]


def test_a_later_run_still_at_work_is_not_disturbed(any_imports, tmp_path):
    file_id = prepare(any_imports, tmp_path)
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(Killed):
        points(any_imports, monkeypatch, kill_at=14)
        any_imports.stored(file_id, batch_size=2, job=any_imports.job("q.x", 5))
    before = any_imports.query("SELECT * FROM import_checkpoints")
    with pytest.raises(LeaseLost):
        any_imports.stored(file_id, batch_size=2, job=any_imports.job("q.x", 4))
    assert any_imports.query("SELECT * FROM import_checkpoints") == before


def test_a_worker_that_loses_the_job_within_a_batch_commits_nothing_after(any_imports, tmp_path):
    """The claim of the new worker waits for the batch that is being written, and counts it in."""
    file_id = prepare(any_imports, tmp_path)
    expected = outcome(any_imports, any_imports.stored(file_id, batch_size=2))
    prepare(any_imports, tmp_path)
    claimed = threading.Event()
    results: list[Any] = []

    def take_over():
        claimed.set()
        results.append(any_imports.stored(file_id, batch_size=2, job=any_imports.job("q.x", 2)))

    thread = threading.Thread(target=take_over)
    with pytest.MonkeyPatch.context() as monkeypatch:
        original = CheckpointStore.save

        def save(self, connection, checkpoint, mistakes):
            if self._token == 1 and checkpoint.position == 5:
                thread.start()
                assert claimed.wait(30)
            original(self, connection, checkpoint, mistakes)

        monkeypatch.setattr(CheckpointStore, "save", save)
        try:
            any_imports.stored(file_id, batch_size=2, job=any_imports.job("q.x", 1))
            finished_first = True
        except LeaseLost:
            finished_first = False
        thread.join(60)
    # Either is right: the first was quick enough to finish, and the second gave the same result.
    assert finished_first in (True, False)
    assert outcome(any_imports, results[0]) == expected


def test_checkpoints_left_long_ago_are_removed(any_imports, tmp_path):
    file_id = prepare(any_imports, tmp_path)
    any_imports.stored(file_id, job=any_imports.job("q.old"))
    any_imports.execute("UPDATE import_checkpoints SET updated_at = '2020-01-01 00:00:00'")
    any_imports.execute("INSERT INTO import_rejects VALUES ('q.old', 1, 0, 'term', 'is empty', '')")
    any_imports.stored(file_id, job=any_imports.job("q.new"))
    assert any_imports.query("SELECT job_id FROM import_checkpoints") == [("q.new",)]
    assert any_imports.query("SELECT count(*) FROM import_rejects") == [(0,)]


# -- real processes ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_process_that_is_killed_again_and_again(any_imports, tmp_path):
    """SIGKILL after each line of progress that the process writes: somewhere in the batches that follow."""
    header = ["term", "definition", "year_introduced"]
    rows = [[f"t{number % 2_500:05}", f"d{number}", "soon" if number % 100 == 0 else 1950] for number in range(3_000)]
    file_id = any_imports.store(files.xlsx(tmp_path / "a.xlsx", [header, *rows]))
    expected = outcome(any_imports, any_imports.stored(file_id, batch_size=50))
    any_imports.execute("DELETE FROM terms")
    environment = {
        **os.environ,
        "DATABASE_URL": any_imports.settings.database_url,
        "CALLBOARD_DATA_DIR": str(any_imports.settings.data_dir),
    }
    kills, token, answer = 0, 0, ""
    while token < 60 and not answer:
        token += 1
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.families.imports.import_process", file_id, "q.x", str(token), "50"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        with process.stdout:
            # A few more lines each time, so that it ends at last.
            for number, line in enumerate(process.stdout):
                if line.startswith("{"):
                    answer = line
                elif number >= 1 + token * 2:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
                    break
        process.wait()
    assert kills >= 3
    result = any_imports.stored(file_id, batch_size=50, job=any_imports.job("q.x", 99))
    assert repr(result) == answer.strip()
    assert outcome(any_imports, result) == expected
