"""Our values -> arguments of the scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from shared.contracts.queue import QueueContract, QueueLimits, RateLimit
from shared.engine.adding import DedupeMode, check_name
from shared.engine.engine import Finish, NewJob
from shared.engine.flows import Dependency
from shared.engine.record import to_json

#: no job waits longer than this, or for a later time, milliseconds: some three thousand years
LATEST_MS = 10**14
#: the parts of limits as text, in their order; see ``lua/lib/limits.lua``
_PARTS = ("rate", "concurrency", "group_rate", "group_concurrency", "max_length")
#: what of limits one group can have
GROUP_PARTS = {"rate": "rate", "concurrency": "concurrency"}


def job_args(
    job: NewJob, *, flow_id: str = "", after: Iterable[Dependency] = (), dependents: Iterable[tuple[str, str]] = ()
) -> tuple[Any, ...]:
    """Give the 8 values of a job that is to be added, see ``lua/lib/adding.lua``.

    Args:
        job: the job.
        flow_id: flow that it belongs to.
        after: what it waits for.
        dependents: (what its failure does, full id) of what waits for it.

    Raises:
        ValueError: when the name cannot be stored.
    """
    if not str(job.name).isprintable():
        raise ValueError(f"The name {job.name!r} has characters that cannot be printed.")
    delay_ms = job.delay_ms
    if job.dedupe is not None and job.dedupe.mode is DedupeMode.DEBOUNCE and not delay_ms and job.run_at_ms is None:
        delay_ms = job.dedupe.window_ms
    return (
        job.id[-26:],
        job.name,
        job.body,
        int(job.priority),  # it may be a name of an IntEnum, which the driver refuses
        whole_ms(delay_ms),
        "" if job.run_at_ms is None else whole_ms(job.run_at_ms),
        _rest(job, flow_id),
        _extra(job, flow_id, after, dependents),
    )


def _rest(job: NewJob, flow_id: str) -> bytes:
    max_stalls = "" if job.max_stalls is None else job.max_stalls
    keep_ms = "" if job.keep_s is None else job.keep_s * 1000
    group = "" if job.group is None else check_name("group", job.group)
    # A job of a flow is needed by others, whoever holds its key.
    dedupe = "" if job.dedupe is None or flow_id else f"{job.dedupe.mode.value} {job.dedupe.window_ms} {job.dedupe.key}"
    options = to_json(job.options) if job.options else b""
    return f"{max_stalls}\n{keep_ms}\n{group}\n{dedupe}\n{flow_id}\n".encode() + options


def _extra(job: NewJob, flow_id: str, after: Iterable[Dependency], dependents: Iterable[tuple[str, str]]) -> bytes:
    extra: dict[str, Any] = {}
    # As with deduplication: of a flow's job that is not added, nobody would tell those that wait for it.
    if job.idempotency is not None and not flow_id:
        key = job.idempotency
        extra |= {"ik": key.key, "ih": key.request_hash, "iw": key.window_ms}
    if edges := {edge.job_id: edge.on_failure.value for edge in after}:
        extra["after"] = edges
    if lines := "\n".join(f"{policy} {job_id}" for policy, job_id in dependents):
        extra["next"] = lines
    return to_json(extra) if extra else b""


def finish_args(finishes: Iterable[Finish]) -> list[Any]:
    """Give the values of finishes, see ``lua/cycle.lua``."""
    args: list[Any] = []
    for finish in finishes:
        args += (
            finish.job_id[-26:],
            finish.token,
            finish.outcome.value,
            whole_ms(finish.delay_ms),
            finish.data,
            finish.body,
            len(finish.followers),
        )
        for job in finish.followers:
            args.append(job.id[:-27])
            args += job_args(job)
    return args


@lru_cache(maxsize=1024)
def contract_args(contract: QueueContract) -> tuple[Any, ...]:
    """Give what a contract says to every cycle of its queue: retention and limits."""
    keep = contract.retention
    return (
        keep.completed_age_s * 1000,
        keep.completed_count,
        "" if keep.completed_bytes is None else keep.completed_bytes,
        keep.failed_age_s * 1000,
        keep.failed_count,
        "" if keep.failed_bytes is None else keep.failed_bytes,
        contract_limits(contract.limits),
    )


def contract_limits(limits: QueueLimits) -> str:
    """Give a contract's limits as text."""
    return "|".join(_limit(getattr(limits, name), none="") for name in _PARTS)


def changed_limits(changes: Mapping[str, RateLimit | int | None]) -> str:
    """Give an operator's changes as text; empty when there are none."""
    if not changes:
        return ""
    return "|".join(_limit(changes[name], none="-") if name in changes else "" for name in _PARTS)


def describe_limits(changes: Mapping[str, RateLimit | int | None]) -> bytes:
    """Give an operator's changes as JSON, so that they read back as they were made."""
    return to_json(
        {
            name: [value.max_jobs, value.per_ms, value.burst] if isinstance(value, RateLimit) else value
            for name, value in changes.items()
        }
    )


def read_limits(described: Mapping[str, Any]) -> dict[str, RateLimit | int | None]:
    """Undo :func:`describe_limits`."""
    return {name: RateLimit(*value) if isinstance(value, list) else value for name, value in described.items()}


def _limit(value: RateLimit | int | None, *, none: str) -> str:
    if value is None:
        return none
    if isinstance(value, RateLimit):
        return f"{value.interval_us!r} {(value.starts_at_once - 1) * value.interval_us!r}"
    return str(value)


def whole_ms(value: float) -> int:
    """Give a time as the scripts can count with it: Lua's numbers are exact, and written as digits only, to 2^53."""
    return min(int(value), LATEST_MS)
