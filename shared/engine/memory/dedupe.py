"""Which jobs hold a queue's deduplication and idempotency keys."""

from __future__ import annotations

from dataclasses import dataclass

from shared.engine.adding import DedupeMode, Idempotency
from shared.engine.memory.job import StoredJob

#: keys beyond which those whose time is over are looked for
_SWEEP_FROM = 1_000


@dataclass(slots=True)
class _Holder:
    job_id: str
    mode: DedupeMode
    #: when the key is free, milliseconds; None while the job is unfinished
    until_ms: int | None


@dataclass(slots=True)
class _Request:
    job_id: str
    request_hash: str
    until_ms: int


class Keys:
    """The keys of one queue."""

    def __init__(self) -> None:
        self._holders: dict[str, _Holder] = {}
        self._requests: dict[str, _Request] = {}
        self._sweep_at = _SWEEP_FROM

    def __len__(self) -> int:
        return len(self._holders) + len(self._requests)

    # -- deduplication --

    def holder(self, key: str, now_ms: int) -> str | None:
        """Give the job that holds a key."""
        held = self._holders.get(key)
        if held is None or (held.until_ms is not None and held.until_ms <= now_ms):
            return None
        return held.job_id

    def hold(self, job: StoredJob, now_ms: int) -> None:
        """Give a job its key."""
        dedupe = job.dedupe
        if dedupe is None:
            return
        until_ms = now_ms + dedupe.window_ms if dedupe.mode is DedupeMode.THROTTLE else None
        self._holders[dedupe.key] = _Holder(job.id, dedupe.mode, until_ms)
        self._sweep(now_ms)

    def ended(self, job: StoredJob, now_ms: int) -> None:
        """Let go of a finished job's key, at once or when its window is over."""
        held = self._held_by(job)
        if held is None or job.dedupe is None or held.mode is DedupeMode.THROTTLE:
            return
        if held.mode is DedupeMode.REJECT and job.dedupe.window_ms:
            held.until_ms = now_ms + job.dedupe.window_ms
        else:
            del self._holders[job.dedupe.key]

    def removed(self, job: StoredJob) -> None:
        """Let go of the key of a job that somebody removed."""
        held = self._held_by(job)
        if held is not None and job.dedupe is not None and held.mode is not DedupeMode.THROTTLE:
            del self._holders[job.dedupe.key]

    def runs_again(self, job: StoredJob, now_ms: int) -> None:
        """Give a job that runs again its key, if that is free."""
        if job.dedupe is None or job.dedupe.mode is not DedupeMode.REJECT:
            return
        if self.holder(job.dedupe.key, now_ms) in (None, job.id):
            self.hold(job, now_ms)

    def held(self, now_ms: int) -> list[str]:
        """Give the keys that are held or remembered."""
        requests = [key for key, request in self._requests.items() if request.until_ms > now_ms]
        return [key for key in self._holders if self.holder(key, now_ms)] + requests

    def _held_by(self, job: StoredJob) -> _Holder | None:
        held = self._holders.get(job.dedupe.key) if job.dedupe else None
        return held if held is not None and held.job_id == job.id else None

    # -- idempotency --

    def request(self, asked: Idempotency, now_ms: int) -> tuple[str, bool] | None:
        """Give the job that a request was answered with before, and whether it was the same request."""
        known = self._requests.get(asked.key)
        if known is None or known.until_ms <= now_ms:
            return None
        return known.job_id, known.request_hash == asked.request_hash

    def answered(self, asked: Idempotency, job_id: str, now_ms: int) -> None:
        """Remember what a request was answered with."""
        self._requests[asked.key] = _Request(job_id, asked.request_hash, now_ms + asked.window_ms)
        self._sweep(now_ms)

    def _sweep(self, now_ms: int) -> None:
        if len(self) < self._sweep_at:
            return
        for keys in (self._holders, self._requests):
            for key in [key for key, held in keys.items() if held.until_ms is not None and held.until_ms <= now_ms]:
                del keys[key]
        self._sweep_at = 2 * len(self) + _SWEEP_FROM
