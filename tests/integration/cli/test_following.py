"""Commands that follow a job, as processes of their own: live progress, results, and what may happen meanwhile."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from shared.client import Client
from shared.engine.redis import RedisEngine
from tests.integration.cli.conftest import ApiServer, CommandLine, Hand, wait_until
from tests.servers import PATIENCE_S, ValkeyServer

pytestmark = pytest.mark.needs_server

SUBMIT = ("submit", "imports.batch_insert", "--payload", '{"dataset": "terms", "rows": [{"term": "a"}]}')
RESULT = {"dataset": "terms", "read": 1200, "inserted": 1190, "updated": 4, "skipped": 0, "rejected": 6}


def read_until(stream: Any, text: str) -> str:
    """Read lines until one holds a text; gives all of them."""
    seen = ""
    for line in stream:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} never came: {seen}")


@pytest.mark.parametrize(("end", "code"), [("complete", 0), ("fail", 1), ("cancel", 1)])
def test_submit_and_wait(cli: CommandLine, batches: Hand, end: str, code: int) -> None:
    process = cli.start(*SUBMIT, "--wait", "--json")
    job = batches.take()
    batches.progress(job, 50)
    {
        "complete": lambda: batches.complete(job, {"inserted": 1}),
        "fail": lambda: batches.fail(job, "no such table"),
        "cancel": lambda: batches.cancel(job),
    }[end]()
    ran = cli.end(process)
    assert (ran.code, ran.err) == (code, "")
    assert ran.document["id"] == job.id
    assert ran.document["state"] == {"complete": "completed", "fail": "failed", "cancel": "cancelled"}[end]
    assert ran.document["payload"]["dataset"] == "terms", "the whole job, not only what the stream tells of it"


def test_a_failure_is_told_in_a_line(cli: CommandLine, batches: Hand) -> None:
    process = cli.start(*SUBMIT, "--wait")
    job = batches.take()
    batches.fail(job, "no such\ntable")
    ran = cli.end(process)
    assert ran.code == 1
    assert ran.err.splitlines()[-1] == f"callboard: job {job.id} failed after attempt 1: no such table"


def test_watch_as_lines_of_json(cli: CommandLine, batches: Hand) -> None:
    job_id = cli(*SUBMIT).out.strip()
    process = cli.start("watch", job_id, "--json")
    assert process.stdout
    documents = [json.loads(process.stdout.readline())]
    job = batches.take()
    for percent in (20, 40):
        documents.append(json.loads(read_until(process.stdout, '"active"').splitlines()[-1]))
        batches.progress(job, percent)
    documents.append(json.loads(read_until(process.stdout, '"percent": 40').splitlines()[-1]))
    batches.complete(job, {"inserted": 1})
    ran = cli.end(process)
    documents += [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 0
    assert [document["state"] for document in documents] == ["waiting", "active", "active", "active", "completed"]
    assert documents[-1]["result"] == {"inserted": 1}
    assert ran.err == ""


def test_a_job_that_has_finished_is_shown_at_once(cli: CommandLine, batches: Hand) -> None:
    job_id = cli(*SUBMIT).out.strip()
    batches.fail(batches.take(), "it broke")
    watched = cli("watch", job_id)
    assert watched.code == 1
    assert "it broke" in watched.out
    lines = cli("watch", job_id, "--json")
    assert (lines.code, lines.document["state"]) == (1, "failed")


# -- import --


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    path = tmp_path / "new terms.csv"
    path.write_text("Term,Meaning\na,b\n")
    return path


def stored(api: ApiServer, name: str, content: bytes) -> str:
    """Store a file as a job would; gives its id."""
    import httpx

    headers = {"Authorization": f"Bearer {api.env['CALLBOARD_ADMIN_KEY']}"}
    answer = httpx.post(f"{api.url}/api/v1/files", params={"name": name}, content=content, headers=headers)
    return str(answer.json()["id"])


def test_import_from_upload_to_report(
    cli: CommandLine, api: ApiServer, workbooks: Hand, workbook: Path, queue: RedisEngine
) -> None:
    process = cli.start(
        *("import", str(workbook), "--dataset", "terms", "--sheet", "0", "--header-row", "2"),
        *("--map", "Meaning=definition", "--conflict", "skip", "--on-error", "report"),
        *("--max-rejects", "10", "--batch-size", "50", "--report"),
    )
    job = workbooks.take()
    record = queue.get(job.id)
    assert record is not None
    payload = dict(record.payload or {})
    file_id = payload.pop("file_id")
    assert payload == {
        "dataset": "terms",
        "sheet": 0,
        "header_row": 2,
        "mapping": {"Meaning": "definition"},
        "conflict": "skip",
        "on_error": "report",
        "max_rejects": 10,
        "batch_size": 50,
    }
    assert (Path(api.env["CALLBOARD_DATA_DIR"]) / "files" / file_id / "content").read_bytes() == workbook.read_bytes()
    workbooks.progress(job, 50, rows=600, total=1200, rows_per_s=300.0, remaining_s=2.0)
    assert process.stderr
    told = read_until(process.stderr, "50 %")
    assert "new terms.csv: active 50 % · 600 of 1,200 rows · 300 rows/s · 2 s left" in told
    workbooks.complete(job, {**RESULT, "report_file_id": stored(api, "terms-rejects.csv", b"row,column,reason\n")})
    ran = cli.end(process)
    assert ran.code == 0
    heading, names, figures = ran.out.splitlines()
    assert heading.startswith("Imported new terms.csv into terms in ")
    assert names.split() == ["read", "inserted", "updated", "skipped", "rejected"]
    assert figures.split() == ["1,200", "1,190", "4", "0", "6"]
    report = workbook.with_name("new terms-rejects.csv")
    assert report.read_bytes() == b"row,column,reason\n"
    assert str(report) in ran.err
    assert "\x1b" not in told + ran.out + ran.err


def test_import_as_json_with_a_report_elsewhere(
    cli: CommandLine, api: ApiServer, workbooks: Hand, workbook: Path, tmp_path: Path
) -> None:
    process = cli.start("import", str(workbook), "--json", "--report", str(tmp_path / "why.csv"))
    job = workbooks.take()
    workbooks.complete(job, {**RESULT, "report_file_id": stored(api, "terms-rejects.csv", b"why\n")})
    ran = cli.end(process)
    assert (ran.code, ran.err) == (0, "")
    assert ran.document["result"]["rejected"] == 6
    assert ran.document["report_path"] == str(tmp_path / "why.csv")
    assert (tmp_path / "why.csv").read_text() == "why\n"


def test_import_that_fails(cli: CommandLine, workbooks: Hand, workbook: Path) -> None:
    process = cli.start("import", str(workbook))
    workbooks.fail(workbooks.take(), "The file is encrypted: save it without a password.")
    ran = cli.end(process)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines()[-1].endswith("The file is encrypted: save it without a password.")


def test_import_without_waiting(cli: CommandLine, workbooks: Hand, workbook: Path) -> None:
    ran = cli("import", str(workbook), "--no-wait")
    assert (ran.code, ran.out) == (0, f"{workbooks.take().id}\n")
    assert cli("import", str(workbook), "--no-wait", "--json").document["type"] == "imports.excel"


# -- the client alone --


def test_events_of_a_queue_and_where_to_go_on(cli: CommandLine, api: ApiServer, batches: Hand) -> None:
    with Client(api.url, api.env["CALLBOARD_ADMIN_KEY"]) as client:
        with closing(client.events(queues=["db-batch", "excel-import"])) as events:
            first = next(events)
            job_id = cli(*SUBMIT).out.strip()
            added = next(events)
            assert (first.name, added.data["job_id"], added.data["queue"]) == ("ready", job_id, "db-batch")
        batches.complete(batches.take())
        with closing(client.events(queues=["db-batch", "excel-import"], last_event_id=added.id)) as events:
            assert next(events).name == "ready"
            missed = next(event for event in events if event.name == "completed")
            assert missed.data["job_id"] == job_id
        of_the_job = [event.name for event in client.events(job_id)]
        assert of_the_job == ["state"], "the stream of a job that has finished says so and ends"


# -- on a terminal --


class Terminal:
    """What a command prints on a terminal of its own."""

    def __init__(self, cli: CommandLine, *arguments: str, **env: str) -> None:
        self._screen, side = pty.openpty()
        self.process = cli.start(*arguments, env=env, stdout=side, stderr=side)
        os.close(side)
        self.text = ""

    def read_until(self, pattern: str) -> None:
        while not re.search(pattern, self.text):
            assert self._read(), f"{pattern!r} never came: {self.text!r}"

    def end(self) -> int:
        while self._read():
            pass
        os.close(self._screen)
        return self.process.wait(timeout=PATIENCE_S)

    def _read(self) -> bool:
        try:
            data = os.read(self._screen, 65536)
        except OSError:  # how Linux says that the other side has been closed
            return False
        self.text += data.decode(errors="replace")
        return bool(data)


def test_a_bar_on_a_terminal(cli: CommandLine, workbooks: Hand, workbook: Path) -> None:
    terminal = Terminal(cli, "import", str(workbook))
    job = workbooks.take()
    workbooks.progress(job, 30, rows=360, total=1200)
    terminal.read_until(r"30%.*active · 360 of 1,200 rows")
    workbooks.complete(job, RESULT)
    assert terminal.end() == 0
    assert "\x1b[?25l" in terminal.text
    assert "\x1b[?25h" in terminal.text, "the cursor is shown again"
    assert "Imported new terms.csv into terms" in terminal.text


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"TERM": "dumb", "NO_COLOR": "1"}])
def test_no_control_codes_on_a_dumb_terminal(
    cli: CommandLine, workbooks: Hand, workbook: Path, env: dict[str, str]
) -> None:
    terminal = Terminal(cli, "import", str(workbook), **env)
    job = workbooks.take()
    terminal.read_until("active")
    workbooks.complete(job, RESULT)
    assert terminal.end() == 0
    assert "\x1b" not in terminal.text


@pytest.mark.parametrize(("arguments", "env"), [(("--no-color",), {}), ((), {"NO_COLOR": "1"})])
def test_no_colours_when_none_are_wanted(
    cli: CommandLine, batches: Hand, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    job_id = cli(*SUBMIT).out.strip()
    coloured, plain = Terminal(cli, "status", job_id), Terminal(cli, "status", job_id, *arguments, **env)
    assert coloured.end() == plain.end() == 0
    colour = re.compile(r"\x1b\[(\d+;)*(3\d|9\d)m")
    assert colour.search(coloured.text)
    assert not colour.search(plain.text)


# -- what may happen meanwhile --


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_ctrl_c_leaves_the_job_alone(cli: CommandLine, api: ApiServer, batches: Hand, as_json: bool) -> None:
    # A group of its own: the test's own shell must not hear the signal.
    process = cli.start(*SUBMIT, "--wait", *(("--json",) if as_json else ()), start_new_session=True)
    job = batches.take()
    wait_until(lambda: f"{job.id}/progress" in api.log(), "the command follows the job")
    process.send_signal(signal.SIGINT)
    ran = cli.end(process)
    assert (ran.code, ran.out) == (130, "")
    said = ran.problem["detail"] if as_json else ran.err.splitlines()[-1]
    assert f"callboard watch {job.id}" in said
    assert cli("status", job.id, "--json").document["state"] == "active"


def test_ctrl_c_while_the_job_is_sent(cli: CommandLine) -> None:
    # Takes what is sent and never answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = cli.start(*SUBMIT, "--url", address, start_new_session=True)
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(4) == b"POST"
            process.send_signal(signal.SIGINT)
            ran = cli.end(process)
    assert (ran.code, ran.out) == (130, "")
    assert "may have arrived" in ran.err


def test_the_time_that_was_given_is_over(cli: CommandLine, batches: Hand) -> None:
    ran = cli(*SUBMIT, "--wait", "--timeout", "300ms")
    job = batches.take()
    assert ran.code == 6
    assert ran.err.splitlines()[-1].endswith(f"The job goes on; follow it with: callboard watch {job.id}")


def test_whoever_read_the_output_has_gone(cli: CommandLine, batches: Hand) -> None:
    process = cli.start("types", "--json")
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.wait(timeout=PATIENCE_S) == 141
    assert process.stderr.read() == ""


def test_the_api_dies_and_comes_back_while_a_job_is_followed(
    make_api: Callable[[ValkeyServer], ApiServer],
    make_cli: Callable[[dict[str, str]], CommandLine],
    valkey: ValkeyServer,
    namespace: str,
    engine: RedisEngine,
) -> None:
    api = make_api(valkey)
    cli, batches = make_cli(api.env), Hand(engine, "db-batch")
    process = cli.start(*SUBMIT, "--wait")
    assert process.stderr
    job = batches.take()
    read_until(process.stderr, "active")
    batches.progress(job, 10)
    read_until(process.stderr, "10 %")  # which only the stream can have told
    api.restart()
    told = read_until(process.stderr, "connection lost")
    batches.progress(job, 70)
    told += read_until(process.stderr, "70 %")
    batches.complete(job, {"inserted": 1})
    ran = cli.end(process)
    assert ran.code == 0
    assert "completed" in ran.out
    assert told.count("connection lost") == 1


def test_the_queue_server_is_down(
    make_api: Callable[[ValkeyServer], ApiServer],
    make_cli: Callable[[dict[str, str]], CommandLine],
    make_valkey: Callable[..., ValkeyServer],
    tmp_path: Path,
) -> None:
    server = make_valkey()
    api = make_api(server)
    cli = make_cli(api.env)
    assert cli("queues").code == 0
    server.kill()
    workbook = tmp_path / "a.csv"
    workbook.write_text("a\n1\n")
    for arguments in (("queues",), SUBMIT, ("import", str(workbook)), ("list",)):
        ran = cli(*arguments)
        assert (ran.code, ran.out) == (5, "")
        last = ran.err.splitlines()[-1]
        assert last.startswith("callboard: Callboard answers, but its queue server (Redis) is down")
        assert re.search(r"Try again in \d+ s\.$", last)
    problem = cli("queues", "--json").problem
    assert (problem["type"], problem["status"]) == ("urn:callboard:problem:queue-unavailable", 503)
    assert problem["retry_after_s"] >= 1
    server.start()
    wait_until(lambda: cli("queues").code == 0, "the API finds its queue server again")
