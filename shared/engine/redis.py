"""RedisEngine: the queue on a Redis or Valkey server; the only caller of the Lua scripts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from shared.config import Settings
from shared.contracts.priority import PRIORITY_MAX, PRIORITY_MIN
from shared.contracts.queue import QueueContract
from shared.engine.adding import Added, AddStatus
from shared.engine.engine import (
    DEFAULT_MAX_STALLS,
    Counts,
    CycleReply,
    Event,
    Finish,
    FinishStatus,
    JobRecord,
    LeaseStatus,
    NewJob,
    Page,
)
from shared.engine.events import decode_events, entry_before
from shared.engine.keys import split_job_id
from shared.engine.outages import REPLY_TIMEOUT_S
from shared.engine.pressure import Pressure
from shared.engine.record import decode_record, from_json, to_json
from shared.engine.redis_maintenance import RedisMaintenance
from shared.engine.redis_waiter import RedisWaiter
from shared.engine.replies import hash_fields, lease_status, leased_jobs, stream_entries
from shared.engine.requests import contract_args, finish_args, job_args
from shared.engine.server import Server
from shared.engine.states import State
from shared.errors import QueueFull, ValidationFailed

#: lines of a job's log that are kept
LOG_LINES_KEPT = 1_000
#: jobs added by one script call; a longer list is cut, so that the server is never held for long
ADD_CHUNK = 1_000
#: looked up, and not called: an enum's call costs half a microsecond
_STATUSES = {status.value: status for status in FinishStatus}
#: where a page ended: a score and an id
_CURSOR = re.compile(r"-?\d{1,16}:[0-9A-Za-z]{26}")


class RedisEngine(RedisMaintenance):
    """See :class:`shared.engine.engine.Engine`.

    Args:
        server: the connections.
        namespace: prefix of every key.
    """

    def __init__(self, server: Server, namespace: str = "cb") -> None:
        super().__init__(server, namespace)
        self._pressure = Pressure(lambda queue: cast("bytes", self._run("memory", queue)))

    @classmethod
    def from_url(cls, url: str, namespace: str = "cb", *, reply_timeout_s: float = REPLY_TIMEOUT_S) -> RedisEngine:
        """Make an engine for a URL that :meth:`Server.from_url` takes; connects when first used."""
        return cls(Server.from_url(url, reply_timeout_s=reply_timeout_s), namespace)

    @classmethod
    def from_settings(cls, settings: Settings) -> RedisEngine:
        """Make an engine for the server that the settings name."""
        return cls.from_url(settings.redis_url, settings.namespace)

    @property
    def server(self) -> Server:
        """The connections."""
        return self._server

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    # -- producing --

    def add(self, queue: str, jobs: Sequence[NewJob], *, max_length: int | None = None) -> list[Added]:
        """See :meth:`Engine.add`; more than 1,000 jobs are added in several steps."""
        prefix = queue + "."
        for job in jobs:
            if not job.id.startswith(prefix) or len(job.id) != len(prefix) + 26:
                raise ValueError(f"{job.id!r} is not the id of a job of queue {queue!r}: make it with new_job_id.")
        added: list[Added] = []
        for start in range(0, len(jobs), ADD_CHUNK):
            chunk = jobs[start : start + ADD_CHUNK]
            args: list[Any] = [len(chunk), "" if max_length is None else max_length]
            for job in chunk:
                args += job_args(job)
            self._admit(queue)
            reply = self._run("add", queue, *args)
            if reply == -1:
                raise QueueFull(f"Queue {queue!r} holds as many unfinished jobs as it may: try again later.")
            added += [_added(prefix, job, status) for job, status in zip(chunk, reply, strict=True)]
        return added

    def _admit(self, queue: str) -> None:
        self._pressure.check(queue)

    # -- consuming --

    def cycle(
        self,
        queue: QueueContract,
        *,
        worker: str,
        request: str,
        repeat: bool,
        want: int,
        lease_ms: int,
        finishes: Sequence[Finish] = (),
    ) -> CycleReply:
        """See :meth:`Engine.cycle`."""
        reply = self._run(
            "cycle",
            queue.name,
            worker,
            request,
            1 if repeat else 0,
            want,
            lease_ms,
            DEFAULT_MAX_STALLS,
            *contract_args(queue),
            len(finishes),
            *finish_args(finishes),
        )
        next_ms, statuses, jobs, limited, outbox = reply
        prefix = queue.name + "."
        return CycleReply(
            jobs=leased_jobs(prefix, jobs),
            finishes=[_STATUSES[status] for status in statuses],
            next_ms=None if next_ms < 0 else next_ms,
            limited=limited == 1,
            outbox=outbox,
        )

    def renew(self, queue: str, leases: Sequence[tuple[str, int]], lease_ms: int) -> list[LeaseStatus]:
        """See :meth:`Engine.renew`."""
        args: list[Any] = [lease_ms]
        for job_id, token in leases:
            args += (job_id[-26:], token)
        return [LeaseStatus(status) for status in self._run("renew", queue, *args)]

    def reap(self, queue: str) -> list[str]:
        """See :meth:`Engine.reap`."""
        reaped: list[str] = []
        while True:
            ids, steps = self._run("reap", queue, DEFAULT_MAX_STALLS)
            reaped += [f"{queue}.{local_id.decode()}" for local_id in ids]
            # A script takes a few only, so that it never holds the server for long.
            if not ids:
                break
        if steps:
            # Once: what is left is taken by who cycles the queue, and the caller has leases to renew.
            self.relay(queue)
        return reaped

    def waiter(self, worker: str) -> RedisWaiter:
        """See :meth:`Engine.waiter`."""
        return RedisWaiter(self._server, self._namespace, worker)

    # -- reporting while a job runs --

    def progress(
        self, job_id: str, token: int, percent: float, message: str | None, data: Mapping[str, Any]
    ) -> LeaseStatus:
        """See :meth:`Engine.progress`."""
        queue, local_id = split_job_id(job_id)
        text = to_json({"percent": round(percent, 3), "message": message, "data": data})
        return LeaseStatus(self._run("progress", queue, local_id, token, round(percent, 3), text))

    def log(self, job_id: str, token: int, level: str, message: str, data: Mapping[str, Any]) -> None:
        """See :meth:`Engine.log`."""
        queue, local_id = split_job_id(job_id)
        line = to_json({"level": level, "message": message, "data": data})
        self._run("log", queue, local_id, token, line, LOG_LINES_KEPT)

    def save_checkpoint(self, job_id: str, token: int, state: bytes) -> LeaseStatus:
        """See :meth:`Engine.save_checkpoint`."""
        queue, local_id = split_job_id(job_id)
        return LeaseStatus(self._run("checkpoint", queue, local_id, token, state))

    def load_checkpoint(self, job_id: str) -> bytes | None:
        """See :meth:`Engine.load_checkpoint`."""
        queue, local_id = split_job_id(job_id)
        return cast("bytes | None", self._server.call("HGET", self._of(queue).job(local_id), "ck"))

    def lease_status(self, job_id: str, token: int) -> LeaseStatus:
        """See :meth:`Engine.lease_status`."""
        queue, local_id = split_job_id(job_id)
        return lease_status(self._call("HGET", self._of(queue).job(local_id), "s"), token)

    # -- steering --

    def cancel(self, job_id: str) -> State:
        """See :meth:`Engine.cancel`."""
        state = State(self._steer("cancel", job_id, "is finished already").decode())
        self.relay_all(split_job_id(job_id)[0])
        return state

    def retry(self, job_id: str) -> None:
        """See :meth:`Engine.retry`."""
        self._steer("retry", job_id, "has neither failed nor been cancelled")

    def promote(self, job_id: str) -> None:
        """See :meth:`Engine.promote`."""
        self._steer("promote", job_id, "is not delayed")

    def remove(self, job_id: str) -> None:
        """See :meth:`Engine.remove`."""
        self._steer("remove", job_id, "is running: cancel it first")
        self.relay_all(split_job_id(job_id)[0])

    def reprioritise(self, job_id: str, priority: int) -> None:
        """See :meth:`Engine.reprioritise`."""
        if not PRIORITY_MIN <= priority <= PRIORITY_MAX:
            raise ValidationFailed(f"The priority is {priority}: use {PRIORITY_MIN} to {PRIORITY_MAX}.")
        self._steer(
            "reprioritise", job_id, "runs or has run: only a job that has not begun can be moved", int(priority)
        )

    def pause(self, queue: str) -> bool:
        """See :meth:`Engine.pause`."""
        return bool(self._run("pause", queue) == 1)

    def resume(self, queue: str) -> bool:
        """See :meth:`Engine.resume`."""
        return bool(self._run("resume", queue) == 1)

    # -- reading --

    def get(self, job_id: str) -> JobRecord | None:
        """See :meth:`Engine.get`."""
        queue, local_id = split_job_id(job_id)
        flat = self._server.call("HGETALL", self._of(queue).job(local_id))
        return decode_record(queue, local_id, hash_fields(flat)) if flat else None

    def list(
        self, queue: str, state: State, *, cursor: str | None = None, limit: int = 50, newest_first: bool = False
    ) -> Page:
        """See :meth:`Engine.list`."""
        if cursor and not _CURSOR.fullmatch(cursor):
            raise ValidationFailed("The cursor is not one that a page gave: start again without one.")
        limit = max(1, limit)
        flat = self._run("list", queue, state.value, 1 if newest_first else 0, cursor or "", limit)
        jobs = [
            decode_record(queue, flat[i].decode(), hash_fields(flat[i + 2]))
            for i in range(0, len(flat), 3)
            if flat[i + 2]
        ]
        full = len(flat) == 3 * limit
        return Page(jobs, f"{flat[-2].decode()}:{flat[-3].decode()}" if full else None)

    def logs(self, job_id: str, *, limit: int = LOG_LINES_KEPT) -> Sequence[Mapping[str, Any]]:
        """See :meth:`Engine.logs`."""
        queue, local_id = split_job_id(job_id)
        lines = self._server.call("LRANGE", self._of(queue).log(local_id), -limit, -1)
        return [from_json(line) for line in lines]

    def counts(self, queue: str) -> Counts:
        """See :meth:`Engine.counts`."""
        waiting, delayed, blocked, active, completed, failed, cancelled, paused = self._run("counts", queue)
        return Counts(waiting, delayed, blocked, active, completed, failed, cancelled, paused == 1)

    def events(self, positions: Mapping[str, str], *, block_ms: int, limit: int = 500) -> Sequence[Event]:
        """See :meth:`Engine.events`."""
        queues = {self._of(queue).events: queue for queue in positions}
        streams = {self._of(queue).events: entry_before(position) for queue, position in positions.items()}
        queues = {self._of(queue).events: queue for queue in positions}
        found: list[Event] = []
        for stream, entries in self._server.read_streams(streams, block_ms=block_ms, limit=limit):
            queue = queues[stream]
            for entry_id, fields in entries:
                found += decode_events(queue, entry_id.decode(), fields, after=positions[queue])
        return found

    def last_event(self, queue: str) -> str:
        """See :meth:`Engine.last_event`."""
        newest = self._server.call("XREVRANGE", self._of(queue).events, "+", "-", "COUNT", 1)
        return str(stream_entries(newest)[0][0].decode()) if newest else "0"

    def ping(self) -> None:
        """See :meth:`Engine.ping`."""
        self._server.ping()


def _added(prefix: str, job: NewJob, reply: Any) -> Added:
    if isinstance(reply, list):
        status, local_id = reply
        return Added(AddStatus(status), prefix + local_id.decode())
    return Added(AddStatus(reply), job.id)
