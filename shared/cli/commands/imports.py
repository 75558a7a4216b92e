"""Importing a file: upload, submit, follow, report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from shared.cli import tables
from shared.cli.failures import Interrupted, UsageError
from shared.cli.following import follow
from shared.cli.formatting import duration, elapsed_s, number, one_line
from shared.cli.live import make_display
from shared.cli.sending import send, tell_sent
from shared.cli.session import Session
from shared.client import Job

#: job type that imports workbooks
_TYPE = "imports.excel"
#: fields of its payload that have an option of the same name; those not given are left to the server
_FIELDS = ("dataset", "sheet", "header_row", "conflict", "on_error", "max_rejects", "batch_size")


def import_file(session: Session, args: argparse.Namespace) -> int:
    """Import a workbook or csv file."""
    path = Path(args.file)
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name the workbook or csv file in it.")
    file_id = _upload(session, path)
    job = send(session, _TYPE, _payload(args, file_id))
    if args.no_wait:
        return tell_sent(session, job)
    return follow(
        session,
        job["id"],
        title=path.name,
        timeout_s=args.timeout,
        result=lambda done: _finished(session, args, path, done),
    )


def _upload(session: Session, path: Path) -> str:
    try:
        with make_display(session.out, path.name) as display:
            return session.client.upload(path, on_progress=display.upload)["id"]
    except KeyboardInterrupt:
        raise Interrupted("The upload was stopped; no job was sent.") from None


def _payload(args: argparse.Namespace, file_id: str) -> dict[str, Any]:
    payload: dict[str, Any] = {"file_id": file_id}
    payload |= {name: getattr(args, name) for name in _FIELDS if getattr(args, name) is not None}
    if args.map:
        payload["mapping"] = dict(args.map)
    return payload


def _finished(session: Session, args: argparse.Namespace, path: Path, job: Job) -> None:
    result: dict[str, Any] = job["result"] if isinstance(job["result"], dict) else {}
    file_id = _report_id(job, result)
    report = _save_report(session, args.report, path, file_id)
    if session.out.as_json:
        session.out.document(job if report is None else {**job, "report_path": str(report)})
        return
    if job["state"] == "completed":
        session.out.show(_heading(path, job, result))
    if result:
        session.out.show(tables.import_table(result))
    if report is not None:
        session.out.note(f"The report of rejected rows is in {report}")
    elif file_id is not None:
        address = f"{session.client.base_url}/api/v1/files/{file_id}/content"
        session.out.note(f"Why rows were rejected is in {address} (--report saves it)")


def _heading(path: Path, job: Job, result: dict[str, Any]) -> str:
    took = elapsed_s(job.get("started_at"), job.get("finished_at"))
    text = f"Imported {path.name}"
    if "dataset" in result:
        text += f" into {result['dataset']}"
    if took is not None:
        text += f" in {duration(took)}"
    if took and result.get("read"):
        text += f" ({number(result['read'] / took)} rows/s)"
    return one_line(text)


def _report_id(job: Job, result: dict[str, Any]) -> str | None:
    """Find the report of rejected rows; an import that fails because of them has one as well."""
    error = job["error"]
    value = (result or (error and error.get("extra")) or {}).get("report_file_id")
    return value if isinstance(value, str) else None


def _save_report(session: Session, wanted: str | None, path: Path, file_id: str | None) -> Path | None:
    """Save the report, if it is wanted and there is one."""
    if wanted is None or file_id is None:
        return None
    return session.client.download(file_id, Path(wanted) if wanted else path.with_name(f"{path.stem}-rejects.csv"))
