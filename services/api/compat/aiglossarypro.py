"""The calls of AIGlossaryPro's job queue guide: ``/api/admin/import`` and ``/api/jobs/excel_import``.

Its answers are ``{"success": true, "data": {...}}``; errors are our problem documents with ``"success": false`` and
``failedReason`` beside them.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, json

from services.api.backend import Backend, backend
from services.api.bodies import check_query, query_flag, wrong_field
from services.api.errors import PROBLEM_JSON
from services.api.uploads import receive_upload
from services.api.waiting import wait_for_end
from shared.engine.engine import JobRecord
from shared.engine.states import State
from shared.errors import JobNotFound
from shared.submission import submit

blueprint = Blueprint("aiglossarypro", __name__, url_prefix="/api")

#: the guide's ``EXCEL_IMPORT``
_TYPE = "imports.excel"
#: where rows go unless the form says otherwise
_DATASET = "terms"
#: a larger file is imported after the answer, bytes
_ASYNC_ABOVE = 5 * 1024 * 1024
#: states as BullMQ names them. Its cancelled jobs are gone or failed: the guide's polling loop knows no other end.
_STATES = {State.BLOCKED: "waiting-children", State.CANCELLED: "failed"}


@blueprint.after_request
def _mark_failure(response: Response) -> Response:
    if response.mimetype == PROBLEM_JSON:
        document = response.get_json()
        response.data = json.dumps({"success": False, "failedReason": document["detail"], **document})
    return response


@blueprint.post("/admin/import")
def start_import() -> tuple[dict[str, Any], int]:
    """Import a workbook: a small one before the answer, a large one after it."""
    check_query(["async"])
    afterwards = query_flag("async")
    the = backend()
    upload = receive_upload(the.storage, the.settings.max_upload_bytes)
    try:
        record = _submit(the, upload.file.id, upload.fields)
    except BaseException:
        # Nobody was told the file's id, so nobody could ever use or delete it.
        the.storage.delete(upload.file.id)
        raise
    if afterwards or upload.file.size_bytes > _ASYNC_ABOVE:
        return _answer({"jobId": record.id, "async": True})
    ended = wait_for_end(the, record.id, the.settings.import_wait_s)
    if ended is None:
        return _answer({"jobId": record.id, "async": True})
    return _outcome(ended)


@blueprint.get("/jobs/excel_import/<job_id>")
def describe(job_id: str) -> tuple[dict[str, Any], int]:
    """Say how an import is doing."""
    return _answer(_job(_read(backend(), job_id)))


@blueprint.delete("/jobs/excel_import/<job_id>")
def cancel(job_id: str) -> tuple[dict[str, Any], int]:
    """Cancel an import; one that has ended is deleted."""
    the = backend()
    if _read(the, job_id).state.finished:
        the.engine.remove(job_id)
        return _answer({"jobId": job_id, "removed": True})
    the.engine.cancel(job_id)
    return _answer({**_job(_read(the, job_id)), "cancelled": True})


def _submit(the: Backend, file_id: str, fields: dict[str, str]) -> JobRecord:
    unknown = sorted(fields.keys() - {"dataset"})
    if unknown:
        raise wrong_field(unknown[0], "is not known here; beside the file the form takes 'dataset'")
    payload = {"file_id": file_id, "dataset": fields.get("dataset") or _DATASET}
    return submit(the.engine, the.catalogue, _TYPE, payload)


def _read(the: Backend, job_id: str) -> JobRecord:
    record = the.read(job_id)
    if record.name != _TYPE:
        raise JobNotFound(f"Job {job_id!r} is no import; read it at /api/v1/jobs/{job_id}.")
    return record


def _job(record: JobRecord) -> dict[str, Any]:
    return {
        "jobId": record.id,
        "state": _STATES.get(record.state, record.state.value),
        "progress": 100 if record.state is State.COMPLETED else (record.progress or {}).get("percent", 0),
        "result": record.result,
        "failedReason": _reason(record),
        "attemptsMade": record.attempt,
    }


def _reason(record: JobRecord) -> str | None:
    if record.state is State.CANCELLED:
        return "The job was cancelled."
    if record.state is State.FAILED:
        return str((record.error or {}).get("message") or "The job failed.")
    return None


def _outcome(record: JobRecord) -> tuple[dict[str, Any], int]:
    data = {**_job(record), "async": False}
    if record.state is State.COMPLETED:
        return _answer(data)
    if record.state is State.CANCELLED:
        status = 409
    else:
        # An error that no further attempt could mend is the file's; the others are ours.
        status = 500 if (record.error or {}).get("retryable") else 422
    return {"success": False, "data": data, "failedReason": data["failedReason"]}, status


def _answer(data: dict[str, Any]) -> tuple[dict[str, Any], int]:
    return {"success": True, "data": data}, 200
