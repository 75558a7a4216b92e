"""Each command against the real API: what it prints, as text and as JSON, and its exit code."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.cli.conftest import KEY, ApiServer, CommandLine, Hand

pytestmark = pytest.mark.needs_server

COMMANDS = (
    *("submit", "import", "status", "watch", "list", "cancel", "retry"),
    *("promote", "logs", "queues", "pause", "resume", "types"),
)
ROWS = '{"dataset": "terms", "rows": [{"term": "a"}]}'


def submit(cli: CommandLine, *options: str) -> str:
    """Submit a job and give its id."""
    ran = cli("submit", "imports.batch_insert", "--payload", ROWS, *options)
    assert ran.code == 0, ran.err
    return ran.out.strip()


def test_submit_prints_the_id_and_nothing_else(cli: CommandLine, batches: Hand) -> None:
    ran = cli("submit", "imports.batch_insert", "--payload", ROWS)
    job = batches.take()
    assert (ran.code, ran.out) == (0, f"{job.id}\n")
    assert f"callboard watch {job.id}" in ran.err


def test_submit_with_everything(cli: CommandLine, batches: Hand) -> None:
    ran = cli(
        *("submit", "imports.batch_insert", "--payload", "-", "--set", "dataset=papers", "--set", "batch_size=7"),
        *(
            "--priority",
            "high",
            "--attempts",
            "5",
            "--tag",
            "a",
            "--tag",
            "b",
            "--owner",
            "u1",
            "--delay",
            "1h",
            "--json",
        ),
        stdin=ROWS,
    )
    job = ran.document
    assert (ran.code, ran.err) == (0, "")
    assert job["payload"] == {"dataset": "papers", "rows": [{"term": "a"}], "batch_size": 7}
    assert (job["state"], job["priority"], job["attempts_max"]) == ("delayed", 2, 5)
    assert (job["options"]["tags"], job["options"]["owner"]) == (["a", "b"], "u1")
    assert job["options"]["attempts"] == 5


def test_submit_at_a_time(cli: CommandLine, batches: Hand) -> None:
    due = (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0)
    ran = cli("submit", "imports.batch_insert", "--payload", ROWS, "--run-at", due.isoformat(), "--json")
    assert ran.document["state"] == "delayed"
    assert datetime.fromisoformat(ran.document["due_at"]) == due


def test_status(cli: CommandLine, batches: Hand) -> None:
    job_id = submit(cli)
    job = batches.take()
    batches.progress(job, 40, rows=400, total=1000, rows_per_s=200.0, remaining_s=3.0)
    text = cli("status", job_id)
    assert text.code == 0
    assert "40 % · 400 of 1,000 rows · 200 rows/s · 3 s left" in text.out
    batches.fail(job, "the table is gone")
    text = cli("status", job_id)
    assert "failed" in text.out
    assert "the table is gone" in text.out
    document = cli("status", job_id, "--json").document
    assert (document["id"], document["state"], document["error"]["message"]) == (job_id, "failed", "the table is gone")


@pytest.mark.parametrize("command", ["status", "watch", "cancel", "retry", "promote", "logs"])
def test_a_job_that_is_not_there(cli: CommandLine, command: str) -> None:
    absent = "db-batch.01ARZ3NDEKTSV4RRFFQ69G5FAV"
    ran = cli(command, absent)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("callboard: There is no job")
    assert ran.err.count("\n") == 1
    problem = cli("--json", command, absent).problem
    assert (problem["type"], problem["status"]) == ("urn:callboard:problem:job-not-found", 404)


def test_list(cli: CommandLine, batches: Hand) -> None:
    waiting, delayed = submit(cli), submit(cli, "--delay", "1h")
    active = batches.take()
    assert active.id == waiting
    text = cli("list")
    assert text.code == 0
    assert [line.split()[0] for line in text.out.splitlines()] == ["id", waiting, delayed]
    document = cli("list", "--json").document
    assert [job["id"] for job in document["jobs"]] == [waiting, delayed]
    assert document["next_cursor"] is None
    only = cli("list", "--state", "delayed", "--queue", "db-batch", "--type", "imports.batch_insert", "--json").document
    assert [job["id"] for job in only["jobs"]] == [delayed]
    part = cli("list", "--limit", "1")
    assert len(part.out.splitlines()) == 2
    assert "--limit 5" in part.err


def test_a_list_without_jobs(cli: CommandLine, batches: Hand) -> None:
    ran = cli("list", "--state", "failed")
    assert (ran.code, ran.out, ran.err) == (0, "", "There are no such jobs.\n")
    assert cli("list", "--state", "failed", "--json").document == {"jobs": [], "next_cursor": None}


def test_a_list_of_a_queue_that_is_not_there(cli: CommandLine) -> None:
    ran = cli("list", "--queue", "nope")
    assert ran.code == 3
    assert "excel-import" in ran.err, "the queues that there are"


def test_cancel_and_retry(cli: CommandLine, batches: Hand) -> None:
    job_id = submit(cli)
    assert cli("cancel", job_id).out == f"{job_id} is cancelled.\n"
    again = cli("cancel", job_id)
    assert again.code == 3
    assert "finished already" in again.err
    assert cli("cancel", job_id, "--json").problem["type"] == "urn:callboard:problem:wrong-state"
    retried = cli("retry", job_id, "--json")
    assert (retried.code, retried.document["state"]) == (0, "waiting")
    job = batches.take()
    assert cli("cancel", job_id).out == f"{job_id} is asked to stop.\n"
    assert "active, asked to stop" in cli("status", job_id).out
    batches.cancel(job)
    assert cli("status", job_id, "--json").document["state"] == "cancelled"


def test_promote(cli: CommandLine, batches: Hand) -> None:
    job_id = submit(cli, "--delay", "1h")
    assert cli("promote", job_id).out == f"{job_id} may run now.\n"
    assert batches.take().id == job_id
    assert cli("promote", job_id).code == 3


def test_logs(cli: CommandLine, batches: Hand) -> None:
    job_id = submit(cli)
    job = batches.take()
    nothing = cli("logs", job_id)
    assert (nothing.code, nothing.out) == (0, "")
    batches.log(job, "read \x1b[31msheet", rows=3)
    batches.log(job, "odd row", level="warning")
    text = cli("logs", job_id)
    assert [line.split(maxsplit=2)[2] for line in text.out.splitlines()] == [
        "info     read \N{REPLACEMENT CHARACTER}[31msheet  rows=3",
        "warning  odd row",
    ]
    lines = cli("logs", job_id, "--json").document["logs"]
    assert [(line["level"], line["data"]) for line in lines] == [("info", {"rows": 3}), ("warning", {})]


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_letters_that_a_terminal_does_not_have(cli: CommandLine, batches: Hand, encoding: str) -> None:
    payload = '{"dataset": "terms", "rows": [{"term": "Größe 大"}]}'
    job_id = cli("submit", "imports.batch_insert", "--payload", payload).out.strip()
    env = {"PYTHONIOENCODING": encoding}
    shown = cli.end(cli.start("status", job_id, env=env))
    assert shown.code == 0
    assert ("Größe 大" if encoding == "utf-8" else "Gr??e ?") in shown.out
    read = cli.end(cli.start("status", job_id, "--json", env=env))
    assert read.document["payload"]["rows"] == [{"term": "Größe 大"}]
    refused = cli.end(cli.start("status", "größe", env=env))
    assert refused.code == 3


def test_queues_pause_and_resume(cli: CommandLine, batches: Hand) -> None:
    submit(cli)
    assert cli("pause", "db-batch").out.startswith("db-batch is paused")
    line = next(line for line in cli("queues").out.splitlines() if line.startswith("db-batch"))
    assert line.split() == ["db-batch", "paused", "1", "0", "0", "0", "0", "0", "0"]
    document = cli("queues", "--json").document["queues"]
    assert {queue["name"]: queue["paused"] for queue in document} == {"db-batch": True, "excel-import": False}
    assert cli("resume", "db-batch", "--json").document["paused"] is False
    for command in ("pause", "resume"):
        ran = cli(command, "nope", "--json")
        assert (ran.code, ran.problem["type"]) == (3, "urn:callboard:problem:unknown-queue")


def test_types(cli: CommandLine) -> None:
    assert "imports.excel" in cli("types").out
    document = cli("types", "--json").document
    assert {"imports.excel", "imports.batch_insert"} <= {item["type"] for item in document["types"]}


# -- bad input: one line, exit code 2 --


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "COMMAND"),
        (("nonsense",), "nonsense"),
        (("status",), "ID"),
        (("list", "--nonsense"), "--nonsense"),
        (("list", "--state", "sleeping"), "waiting"),
        (("list", "--limit", "0"), "1 or more"),
        (("submit", "imports.nope"), "imports.excel"),
        (("submit", "imports.excel"), "file_id"),
        (("submit", "imports.excel", "--set", "file_id=1"), "file_id"),
        (("submit", "imports.excel", "--set", "file_id=x", "--set", "colour=red"), "colour"),
        (("submit", "imports.excel", "--payload", "{"), "not JSON"),
        (("submit", "imports.excel", "--payload", "@/nope.json"), "No such file"),
        (("submit", "imports.batch_insert", "--payload", ROWS, "--priority", "urgent"), "critical"),
        (("submit", "imports.batch_insert", "--payload", ROWS, "--attempts", "1000"), "attempts"),
        (("submit", "x.y", "--delay", "1h", "--run-at", "2030-01-01"), "not allowed with"),
        (("import", "/nope.xlsx"), "No such file"),
        (("import", "/"), "is a folder"),
        (("--url", "nope", "list"), "no address"),
        (("--key", "a b", "list"), "key"),
        (("status", ".."), "no job id"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_bad_input(cli: CommandLine, arguments: tuple[str, ...], told: str, as_json: bool) -> None:
    ran = cli(*(("--json",) if as_json else ()), *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert told in (ran.problem["detail"] if as_json else ran.err)


def test_bad_input_names_each_field(cli: CommandLine) -> None:
    problem = cli("submit", "imports.excel", "--set", "header_row=0", "--json").problem
    assert {error["field"].removeprefix("payload.") for error in problem["errors"]} == {"file_id", "header_row"}


def test_a_file_over_the_limit(cli: CommandLine, tmp_path: Path) -> None:
    with (tmp_path / "big.csv").open("wb") as file:
        file.truncate(300_000_000)
    ran = cli("import", str(tmp_path / "big.csv"))
    assert ran.code == 2
    assert "larger than the limit" in ran.err.splitlines()[-1]


# -- who may call, and whether anybody is there --


@pytest.mark.parametrize("arguments", [("list",), ("import", __file__), ("submit", "imports.excel")])
def test_a_wrong_key(cli: CommandLine, arguments: tuple[str, ...]) -> None:
    for ran in (cli(*arguments, "--key", "wrong"), cli(*arguments, env={"CALLBOARD_ADMIN_KEY": "wrong"})):
        assert ran.code == 4
        assert ran.err.splitlines()[-1] == "callboard: The key is not valid."
    assert cli(*arguments, "--key", "wrong", "--json").problem["type"] == "urn:callboard:problem:not-authenticated"


def test_the_key_file_of_the_data_folder(cli: CommandLine, tmp_path: Path) -> None:
    env = {"CALLBOARD_ADMIN_KEY": "", "CALLBOARD_DATA_DIR": str(tmp_path)}
    missing = cli("list", env=env)
    assert missing.code == 4
    assert "CALLBOARD_ADMIN_KEY is not set" in missing.err
    assert str(tmp_path / "admin.key") in missing.err
    (tmp_path / "admin.key").write_text(f"{KEY}\n")
    assert cli("list", env=env).code == 0


def test_nobody_there(cli: CommandLine) -> None:
    # Port 9 is discard: nothing that people run listens there.
    ran = cli("list", env={"CALLBOARD_URL": "http://127.0.0.1:9"})
    assert (ran.code, ran.out) == (5, "")
    assert "does not answer at http://127.0.0.1:9" in ran.err
    assert "make run" in ran.err
    assert cli("list", "--json", "--url", "http://127.0.0.1:9").problem["type"].endswith(":api-unreachable")


def test_a_setting_that_makes_no_sense(cli: CommandLine) -> None:
    ran = cli("list", env={"PORT": "eighty"})
    assert ran.code == 2
    assert ran.err.startswith("callboard: The environment holds a value that makes no sense: PORT:")


def test_help_and_version(cli: CommandLine) -> None:
    overview = cli("--help")
    assert overview.code == 0
    for command in COMMANDS:
        assert f"    {command} " in overview.out
        assert cli(command, "--help").code == 0
    assert cli("--version").out.startswith("callboard ")


def test_options_may_stand_before_and_after_the_command(cli: CommandLine, api: ApiServer) -> None:
    env = {"CALLBOARD_URL": "http://127.0.0.1:9"}
    for arguments in (("--url", api.url, "--json", "queues"), ("queues", "--json", "--url", api.url)):
        ran = cli(*arguments, env=env)
        assert ran.code == 0
        json.loads(ran.out)
