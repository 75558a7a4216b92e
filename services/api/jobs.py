"""``/api/v1/jobs``: submit, look, steer."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field

from services.api.backend import Backend, backend
from services.api.bodies import check_query, query_flag, query_list, query_number, read_json, wrong_field
from services.api.documents import API, job_document, log_line, status_document, submission_document
from services.api.following import follow_job, wants_stream
from services.api.listing import JobFilter, list_jobs, parse_states
from shared.engine.engine import JobRecord
from shared.engine.states import State
from shared.errors import WrongState
from shared.submission import take_in

blueprint = Blueprint("jobs", __name__, url_prefix=f"{API}/jobs")

_FILTERS = ("queue", "state", "type", "order", "limit", "cursor")


class Submission(BaseModel):
    """Body of ``POST /api/v1/jobs``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str = Field(min_length=1, max_length=200)
    payload: dict[str, Any]
    #: checked by :func:`shared.options.parse_options`, for every way in alike
    options: dict[str, Any] | None = None


@blueprint.post("")
def create() -> tuple[dict[str, Any], int, dict[str, str]]:
    """Add a job; when another stands for it, give that one (200)."""
    check_query([])
    the = backend()
    body = read_json(Submission)
    taken = take_in(the.engine, the.catalogue, body.type, body.payload, body.options)
    location = {"Location": f"{API}/jobs/{taken.record.id}"}
    if taken.is_new:
        return _describe(the, taken.record), 202, location
    return submission_document(taken, the.contract(taken.record)), 200, location


@blueprint.get("")
def list_some() -> dict[str, Any]:
    """List jobs."""
    check_query(_FILTERS)
    the = backend()
    jobs, cursor = list_jobs(
        the.engine,
        _filter(the),
        limit=query_number("limit", 50, least=1, most=200),
        cursor=request.args.get("cursor"),
        secret=the.secret,
    )
    return {"jobs": [_describe(the, job) for job in jobs], "next_cursor": cursor}


@blueprint.get("/<job_id>")
def describe(job_id: str) -> dict[str, Any]:
    """Describe a job."""
    return _describe(backend(), backend().read(job_id))


@blueprint.delete("/<job_id>")
def remove(job_id: str) -> tuple[str, int]:
    """Delete a job that is not running."""
    try:
        backend().engine.remove(job_id)
    except WrongState:
        raise WrongState(
            f"Job {job_id!r} runs: cancel it (POST {API}/jobs/{job_id}/cancel), then delete it when it has stopped.",
            state=State.ACTIVE.value,
        ) from None
    return "", 204


@blueprint.post("/<job_id>/cancel")
def cancel(job_id: str) -> tuple[dict[str, Any], int]:
    """Cancel a job; a running one is asked to stop and stays active until it does (202)."""
    the = backend()
    state = the.engine.cancel(job_id)
    return _describe(the, the.read(job_id)), 202 if state is State.ACTIVE else 200


@blueprint.post("/<job_id>/retry")
def retry(job_id: str) -> tuple[dict[str, Any], int]:
    """Run a failed or cancelled job again, with all its attempts."""
    the = backend()
    the.engine.retry(job_id)
    return _describe(the, the.read(job_id)), 202


@blueprint.post("/<job_id>/promote")
def promote(job_id: str) -> tuple[dict[str, Any], int]:
    """Let a delayed job run now."""
    the = backend()
    the.engine.promote(job_id)
    return _describe(the, the.read(job_id)), 202


@blueprint.get("/<job_id>/logs")
def logs(job_id: str) -> dict[str, Any]:
    """Read the lines that the job's handler kept with it."""
    check_query(["limit"])
    the = backend()
    the.read(job_id)
    lines = the.engine.logs(job_id, limit=query_number("limit", 1000, least=1, most=1000))
    return {"logs": [log_line(line) for line in lines]}


@blueprint.get("/<job_id>/progress")
def progress(job_id: str) -> dict[str, Any] | Response:
    """Say how the job is doing: once, or as a stream until it ends."""
    check_query(["stream"])
    the = backend()
    if wants_stream(query_flag("stream")):
        return follow_job(the, job_id)
    record = the.read(job_id)
    return status_document(record, the.contract(record))


def _describe(the: Backend, record: JobRecord) -> dict[str, Any]:
    return job_document(record, the.contract(record))


def _filter(the: Backend) -> JobFilter:
    job_type = request.args.get("type")
    queues = [the.catalogue.queue(name).name for name in query_list("queue")] or list(the.catalogue.queues)
    if job_type is not None:
        # A type runs on one queue, so the others need no look.
        home = the.catalogue.job(job_type).queue
        queues = [queue for queue in queues if queue == home]
    order = request.args.get("order", "oldest")
    if order not in ("oldest", "newest"):
        raise wrong_field("order", "use oldest or newest")
    return JobFilter(tuple(dict.fromkeys(queues)), parse_states(query_list("state")), job_type, order == "newest")
