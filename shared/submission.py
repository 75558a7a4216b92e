"""Taking a job in: from what a caller says to a job in the queue."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    model_validator,
)
from ulid import ULID

from shared.contracts import (
    Backoff,
    Catalogue,
    ExponentialBackoff,
    FixedBackoff,
    parse_priority,
    validate_payload,
    validation_failed,
)
from shared.engine.engine import DEFAULT_MAX_STALLS, Engine, JobRecord, NewJob
from shared.engine.keys import new_job_id, split_job_id
from shared.engine.record import encode_payload
from shared.engine.states import State
from shared.errors import ContractError, ValidationFailed
from shared.inline import InlineEngine

#: no job waits longer than this for its time; a longer wait is a mistake in seconds and milliseconds
LONGEST_DELAY_MS = 366 * 24 * 3600 * 1000

StrictInt = Annotated[int, Strict()]
StrictFloat = Annotated[float, Strict(), Field(allow_inf_nan=False)]


def _as_time(value: object) -> object:
    # pydantic would take a bare number for seconds or, past a threshold, milliseconds since the epoch.
    if not isinstance(value, str | datetime):
        # pydantic collects ValueErrors only
        raise ValueError("use ISO 8601 with a timezone, e.g. '2026-01-31T09:00:00Z'")  # noqa: TRY004
    return value


def _as_priority(value: object) -> object:
    if not isinstance(value, str | int):
        raise ValueError("use a name or an integer")  # noqa: TRY004
    try:
        return parse_priority(value)
    except ValidationFailed as error:
        raise ValueError(error.detail) from None


class _Option(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FixedBackoffOption(_Option):
    """The same wait after every attempt."""

    kind: Literal["fixed"]
    wait_ms: StrictInt

    def build(self) -> Backoff:
        """Make the backoff.

        Raises:
            ContractError: when the wait is out of range.
        """
        return FixedBackoff(self.wait_ms)


class ExponentialBackoffOption(_Option):
    """A wait that grows by a factor after each attempt."""

    kind: Literal["exponential"]
    base_ms: StrictInt = 1_000
    cap_ms: StrictInt = 3_600_000
    factor: StrictFloat = 2.0
    jitter: StrictFloat = 0.0

    def build(self) -> Backoff:
        """Make the backoff.

        Raises:
            ContractError: when the figures contradict each other.
        """
        return ExponentialBackoff(self.base_ms, self.cap_ms, self.factor, self.jitter)


class JobOptions(_Option):
    """What a caller may ask for one job; what is left out (or null) is as the contract says."""

    priority: Annotated[int | None, BeforeValidator(lambda value: None if value is None else _as_priority(value))] = (
        None
    )
    delay_ms: Annotated[StrictInt, Field(ge=0, le=LONGEST_DELAY_MS)] | None = None
    delay_s: Annotated[StrictFloat, Field(ge=0, le=LONGEST_DELAY_MS / 1000)] | None = None
    run_at: Annotated[AwareDatetime, BeforeValidator(_as_time)] | None = None
    attempts: Annotated[StrictInt, Field(ge=1, le=100)] | None = None
    backoff: Annotated[FixedBackoffOption | ExponentialBackoffOption, Field(discriminator="kind")] | None = None
    timeout_s: Annotated[StrictFloat, Field(gt=0, le=30 * 24 * 3600)] | None = None
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=20)] | None = None
    owner: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    keep_s: Annotated[StrictInt, Field(ge=0, le=10 * 366 * 24 * 3600)] | None = None

    @model_validator(mode="after")
    def _check_together(self) -> JobOptions:
        times = [name for name in ("delay_ms", "delay_s", "run_at") if getattr(self, name) is not None]
        if len(times) > 1:
            raise ValueError(f"{' and '.join(times)} say when to run: give one of them")
        if self.backoff is not None:
            try:
                self.backoff.build()
            except ContractError as error:
                raise ValueError(f"backoff: {error.detail}") from None
        return self

    @property
    def wait_ms(self) -> int:
        """How long the job waits at least, milliseconds."""
        if self.delay_s is not None:
            return round(self.delay_s * 1000)
        return self.delay_ms or 0

    @property
    def run_at_ms(self) -> int | None:
        """When the job may run, milliseconds since the epoch."""
        return None if self.run_at is None else round(self.run_at.timestamp() * 1000)

    def stored(self) -> dict[str, Any]:
        """Give what is stored with the job: the options that its run needs, and only those that were given."""
        return self.model_dump(
            mode="json",
            include={"attempts", "backoff", "timeout_s", "tags", "owner", "keep_s"},
            exclude_none=True,
        )


def parse_options(data: Mapping[str, Any] | None) -> JobOptions:
    """Check a job's options.

    Raises:
        ValidationFailed: with one entry a mistake.
    """
    try:
        return JobOptions.model_validate(dict(data or {}))
    except ValidationError as error:
        raise validation_failed("options", error, within="options") from None


def submit(
    engine: Engine,
    catalogue: Catalogue,
    job_type: str,
    payload: Mapping[str, Any],
    options: JobOptions | Mapping[str, Any] | None = None,
    *,
    job_id: str | None = None,
) -> JobRecord:
    """Check a job and add it to its queue.

    The payload is stored as it was given, so that it reads back the same; its run checks it again.

    Args:
        engine: the queue.
        catalogue: job types.
        job_type: name of one of them.
        payload: its input.
        options: what the caller asks for beyond the contract.
        job_id: id to give it, of :func:`new_job_id`; adding the same id again changes nothing.

    Returns:
        The job as it was accepted, with this machine's clock; no second look at the server is taken for it.

    Raises:
        UnknownJobType, ValidationFailed, EngineUnavailable
    """
    contract = catalogue.job(job_type)
    validate_payload(contract.payload, payload)
    chosen = options if isinstance(options, JobOptions) else parse_options(options)
    job = NewJob(
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
    )
    engine.add(contract.queue, [job])
    # Where jobs run inline it has run by now.
    ran = engine.get(job.id) if isinstance(engine, InlineEngine) else None
    return ran or _accepted(contract.queue, job, payload)


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
    )
