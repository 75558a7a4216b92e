"""Commands about jobs that are there."""

from __future__ import annotations

import argparse
from itertools import islice

from shared.cli import tables
from shared.cli.failures import ExitCode
from shared.cli.following import follow
from shared.cli.session import Session
from shared.client import Job

#: the server's longest page
_PAGE = 200


def status(session: Session, args: argparse.Namespace) -> int:
    """Show a job."""
    _show(session, session.client.job(args.id))
    return ExitCode.OK


def watch(session: Session, args: argparse.Namespace) -> int:
    """Follow a job to its end; with JSON, print it whenever something about it changes."""
    return follow(session, args.id, timeout_s=args.timeout, each=session.out.json_line if session.out.as_json else None)


def list_jobs(session: Session, args: argparse.Namespace) -> int:
    """List jobs."""
    chosen = {"queue": args.queue, "state": args.state, "type": args.type, "order": "newest"}
    page = session.client.page(**chosen, limit=min(args.limit, _PAGE))
    jobs = page["jobs"]
    while (cursor := page["next_cursor"]) and len(jobs) < args.limit:
        page = session.client.page(**chosen, limit=min(args.limit - len(jobs), _PAGE), cursor=cursor)
        jobs += page["jobs"]
    if session.out.as_json:
        session.out.document({"jobs": jobs, "next_cursor": page["next_cursor"]})
    elif not jobs:
        session.out.note("There are no such jobs.")
    else:
        session.out.show(tables.jobs_table(islice(jobs, args.limit)))
        if page["next_cursor"]:
            session.out.note(f"There are more: --limit {args.limit * 5}")
    return ExitCode.OK


def cancel(session: Session, args: argparse.Namespace) -> int:
    """Cancel a job."""
    job = session.client.cancel(args.id)
    asked = job["state"] == "active"
    return _steered(session, job, "is asked to stop" if asked else f"is {job['state']}")


def retry(session: Session, args: argparse.Namespace) -> int:
    """Run a job again."""
    return _steered(session, session.client.retry(args.id), "will run again")


def promote(session: Session, args: argparse.Namespace) -> int:
    """Let a delayed job run now."""
    return _steered(session, session.client.promote(args.id), "may run now")


def logs(session: Session, args: argparse.Namespace) -> int:
    """Print what a job logged."""
    lines = session.client.logs(args.id)
    if session.out.as_json:
        session.out.document({"logs": lines})
    elif not lines:
        session.out.note("The job has logged nothing.")
    else:
        session.out.show(*(tables.log_line(line) for line in lines))
    return ExitCode.OK


def _show(session: Session, job: Job) -> None:
    if session.out.as_json:
        session.out.document(job)
    else:
        session.out.show(tables.job_view(job))


def _steered(session: Session, job: Job, what: str) -> int:
    if session.out.as_json:
        session.out.document(job)
    else:
        session.out.show(f"{job['id']} {what}.")
    return ExitCode.OK
