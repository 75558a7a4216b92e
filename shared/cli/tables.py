"""Jobs, queues and types, laid out for people."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

from shared.cli.formatting import age, clean, duration, elapsed_s, local, number, one_line, rows
from shared.client import Attempt, Job, JobType, LogLine, Queue

STATE_STYLES = {
    "waiting": "yellow",
    "delayed": "blue",
    "blocked": "magenta",
    "active": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "bright_black",
}
#: the column order of a queue's counts
_STATES = tuple(STATE_STYLES)
_LEVEL_STYLES = {"warning": "yellow", "error": "red", "critical": "red"}
#: a value longer than this is cut in a summary; --json has it whole
_LONGEST_VALUE = 200


def state(name: str) -> Text:
    """Write a state in its colour."""
    return Text(one_line(name), style=STATE_STYLES.get(name, ""))


def jobs_table(jobs: Iterable[Job]) -> Table:
    """Lay out a list of jobs, one a line; where that is too narrow, how far they are is cut and their ids never."""
    jobs = list(jobs)
    table = _table("id", "type", "state", "attempt", "created", "progress")
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    for column, field in zip(table.columns, ("id", "type", "state"), strict=False):
        column.min_width = max((len(str(job.get(field))) for job in jobs), default=0)
    for job in jobs:
        table.add_row(
            one_line(job["id"]),
            one_line(job["type"]),
            state(job["state"]),
            _attempt(job),
            age(job["created_at"]),
            _summary(job),
        )
    return table


def job_view(job: Job) -> Table:
    """Lay out one job."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("job", one_line(job["id"]))
    table.add_row("type", one_line(job["type"]))
    table.add_row("state", _state_line(job))
    table.add_row("queue", f"{one_line(job['queue'])}, priority {job['priority']}")
    table.add_row("attempt", _attempt(job))
    for label, name in (("created", "created_at"), ("due", "due_at"), ("started", "started_at")):
        if at := job.get(name):
            table.add_row(label, f"{local(at)} ({age(at)})")
    if finished := job.get("finished_at"):
        ran = elapsed_s(job.get("started_at"), finished)
        table.add_row("finished", f"{local(finished)} ({age(finished)})" + (f", ran {duration(ran)}" if ran else ""))
    if job["progress"]:
        table.add_row("progress", progress_line(job))
    options = {name: value for name, value in job["options"].items() if value not in (None, [])}
    for label, value in (("payload", job["payload"]), ("options", options), ("result", job["result"])):
        if value not in (None, {}):
            table.add_row(label, one_line(json.dumps(value, ensure_ascii=False), _LONGEST_VALUE))
    if job["error"]:
        table.add_row("error", Text(failure_line(job), style="red"))
    for attempt in _failed_attempts(job):
        table.add_row(f"attempt {attempt['attempt']}", _attempt_line(attempt))
    return table


def progress_line(job: Job) -> str:
    """Write how far a job is: percent, and its rows or its own words."""
    progress = job["progress"]
    if not progress:
        return ""
    said = rows(progress.get("data") or {}) or one_line(progress.get("message") or "", _LONGEST_VALUE)
    return f"{progress['percent']:.0f} %" + (f" · {said}" if said else "")


def failure_line(job: Job) -> str:
    """Write why a job failed."""
    error = job["error"]
    if not error:
        return "no reason was given"
    return one_line(error.get("message") or error.get("type") or "no reason was given", 1000)


def import_table(result: dict[str, Any]) -> Table:
    """Lay out what an import did."""
    names = [name for name in ("read", "inserted", "updated", "skipped", "rejected") if name in result]
    table = _table(*names)
    for column in table.columns:
        column.justify = "right"
    table.add_row(*(_count(name, result[name]) for name in names))
    return table


def queues_table(queues: Iterable[Queue]) -> Table:
    """Lay out the queues with their counts."""
    table = _table("queue", "", *_STATES)
    for column in table.columns[2:]:
        column.justify = "right"
    for queue in queues:
        paused = Text("paused", style="yellow") if queue["paused"] else Text("")
        counts = queue["counts"]
        table.add_row(
            one_line(queue["name"]),
            paused,
            *(
                Text(number(counts.get(name, 0)), style=STATE_STYLES[name] if counts.get(name) else "dim")
                for name in _STATES
            ),
        )
    return table


def types_table(types: Iterable[JobType]) -> Table:
    """Lay out the catalogue."""
    table = _table("type", "queue", "attempts", "description")
    table.columns[2].justify = "right"
    for item in types:
        table.add_row(
            one_line(item["type"]),
            one_line(item["queue"]),
            str(item.get("attempts", "")),
            one_line(item.get("description", "")),
        )
    return table


def log_line(line: LogLine) -> Text:
    """Write a line of a job's log."""
    level = one_line(line["level"])
    text = Text(f"{local(line['at'])}  {level:<9}", style="dim")
    text.append(clean(line["message"]), style=_LEVEL_STYLES.get(level, "not dim"))
    for name, value in (line.get("data") or {}).items():
        text.append(f"  {one_line(name)}={one_line(value, _LONGEST_VALUE)}")
    return text


def _table(*headers: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def _state_line(job: Job) -> Text:
    text = state(job["state"])
    if job.get("cancel_requested") and job["state"] == "active":
        text.append(", asked to stop")
    return text


def _summary(job: Job) -> Text:
    if job["state"] in ("failed", "cancelled") and job["error"]:
        return Text(one_line(failure_line(job), 120), style="red" if job["state"] == "failed" else "dim")
    return Text(progress_line(job))


def _attempt(job: Job) -> str:
    most = job.get("attempts_max")
    return f"{job['attempt']} of {most}" if most else str(job["attempt"])


def _failed_attempts(job: Job) -> list[Attempt]:
    attempts = job.get("attempts", [])
    # The error of the only attempt is the job's.
    return [attempt for attempt in attempts if attempt.get("error")] if len(attempts) > 1 else []


def _attempt_line(attempt: Attempt) -> str:
    error = attempt.get("error")
    took = elapsed_s(attempt.get("started_at"), attempt.get("ended_at"))
    said = one_line((error and error.get("message")) or attempt.get("outcome") or "", _LONGEST_VALUE)
    return f"{said} (after {duration(took)})" if took is not None else said


def _count(name: str, value: Any) -> Text:
    style = "red" if name == "rejected" and value else ""
    return Text(number(value) if isinstance(value, int | float) else one_line(value), style=style)
