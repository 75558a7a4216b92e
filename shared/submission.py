"""Taking a job in: from what a caller says to a job in the queue."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ulid import ULID

from shared.contracts import Catalogue, validate_payload
from shared.engine.adding import Added, AddStatus, Idempotency
from shared.engine.engine import DEFAULT_MAX_STALLS, Engine, JobRecord, NewJob
from shared.engine.keys import new_job_id, split_job_id
from shared.engine.record import encode_payload, from_json, to_json
from shared.engine.states import State
from shared.errors import IdempotencyConflict
from shared.inline import InlineEngine
from shared.options import JobOptions, parse_options

#: options as callers may give them
Options = JobOptions | Mapping[str, Any] | None


class Submitted(NamedTuple):
    """What became of a submission."""

    #: the job that stands for it: a new one, or the one that was there already
    record: JobRecord
    status: AddStatus
    #: that job was there and has been removed since: its record has the id and when it was added, no more is known
    removed: bool = False

    @property
    def is_new(self) -> bool:
        """Whether this submission added the job."""
        return self.status is AddStatus.NEW


def submit(
    engine: Engine,
    catalogue: Catalogue,
    job_type: str,
    payload: Mapping[str, Any],
    options: Options = None,
    *,
    job_id: str | None = None,
) -> JobRecord:
    """Check a job and add it to its queue; see :func:`take_in`, which also tells whether the job is a new one.

    Returns:
        The job that stands for the submission.
    """
    return take_in(engine, catalogue, job_type, payload, options, job_id=job_id).record


def take_in(
    engine: Engine,
    catalogue: Catalogue,
    job_type: str,
    payload: Mapping[str, Any],
    options: Options = None,
    *,
    job_id: str | None = None,
) -> Submitted:
    """Check a job and add it to its queue, unless another stands for it.

    The payload is stored as it was given, so that it reads back the same; its run checks it again.

    Args:
        engine: the queue.
        catalogue: job types.
        job_type: name of one of them.
        payload: its input.
        options: what the caller asks for beyond the contract.
        job_id: id to give it, of :func:`new_job_id`; adding the same id again changes nothing.

    Returns:
        A new job as it was accepted, with this machine's clock (no second look at the server is taken for it); or, as
        it is stored, the job that holds the deduplication key or was added under the idempotency key before.

    Raises:
        UnknownJobType, ValidationFailed
        IdempotencyConflict: the idempotency key was used for another request.
        QueueFull: the queue holds as many unfinished jobs as it may.
        EngineUnavailable: also as EngineOverloaded, when the server is nearly out of memory.
    """
    job = new_job(catalogue, job_type, payload, options, job_id=job_id)
    queue = catalogue.jobs[job_type].queue
    (added,) = engine.add(queue, [job], max_length=catalogue.queues[queue].limits.max_length)
    if added.status is AddStatus.CONFLICT:
        raise IdempotencyConflict(job_id=added.job_id)
    if added.status is AddStatus.REPEATED and added.job_id == job.id and job_id is None:
        # An id that nobody else can know: the first try of this very call added it, and its reply was lost.
        added = Added(AddStatus.NEW, job.id)
    if added.is_new:
        # Where jobs run inline it has run by now.
        ran = engine.get(job.id) if isinstance(engine, InlineEngine) else None
        return Submitted(ran or _accepted(queue, job, payload), added.status)
    holder = engine.get(added.job_id)
    if holder is not None:
        return Submitted(holder, added.status)
    # Keys outlive jobs: only one that has ended, or that somebody removed, is not there any more.
    gone = replace(_accepted(queue, replace(job, id=added.job_id), payload), state=State.COMPLETED, due_ms=None)
    return Submitted(gone, added.status, removed=True)


def new_job(
    catalogue: Catalogue,
    job_type: str,
    payload: Mapping[str, Any],
    options: Options = None,
    *,
    job_id: str | None = None,
) -> NewJob:
    """Check a job and make what an engine adds; see :func:`take_in`.

    Raises:
        UnknownJobType, ValidationFailed
    """
    contract = catalogue.job(job_type)
    validate_payload(contract.payload, payload)
    chosen = options if isinstance(options, JobOptions) else parse_options(options)
    return NewJob(
        id=job_id or new_job_id(contract.queue),
        name=contract.type,
        body=encode_payload(payload),
        # A contract may say Priority.HIGH, and the driver takes plain integers only.
        priority=int(contract.priority if chosen.priority is None else chosen.priority),
        delay_ms=chosen.wait_ms,
        run_at_ms=chosen.run_at_ms,
        # What the queue server takes anyway need not be stored with each job.
        max_stalls=None if contract.max_stalls == DEFAULT_MAX_STALLS else contract.max_stalls,
        keep_s=chosen.keep_s,
        options=chosen.stored(),
        group=chosen.group,
        dedupe=None if chosen.dedupe is None else chosen.dedupe.build(),
        idempotency=_idempotency(job_type, payload, chosen),
    )


def _idempotency(job_type: str, payload: Mapping[str, Any], options: JobOptions) -> Idempotency | None:
    if options.idempotency_key is None:
        return None
    asked = options.model_dump(mode="json", exclude={"idempotency_key"}, exclude_none=True)
    # Through JSON and back, so that what is stored alike is hashed alike, in whatever order its fields came.
    request = json.dumps(from_json(to_json([job_type, payload, asked])), sort_keys=True)
    return Idempotency(options.idempotency_key, hashlib.sha256(request.encode()).hexdigest())


def _accepted(queue: str, job: NewJob, payload: Mapping[str, Any]) -> JobRecord:
    created_ms = round(ULID.from_str(split_job_id(job.id)[1]).timestamp * 1000)
    due_ms = job.run_at_ms if job.run_at_ms is not None else created_ms + job.delay_ms
    delayed = due_ms > created_ms
    return JobRecord(
        id=job.id,
        queue=queue,
        name=job.name,
        state=State.DELAYED if delayed else State.WAITING,
        priority=job.priority,
        created_ms=created_ms,
        due_ms=due_ms if delayed else None,
        started_ms=None,
        finished_ms=None,
        attempt=0,
        stalls=0,
        worker=None,
        cancel_requested=False,
        payload=payload,
        options=job.options,
        progress=None,
        result=None,
        error=None,
        attempts=[],
        group=job.group,
        dedupe_key=job.dedupe.key if job.dedupe else None,
    )
