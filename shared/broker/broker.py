"""JobBroker: Dramatiq over the engine.

Dramatiq's Worker, actors, middleware and command line stay as they are. What differs from its RedisBroker is in
docs/adr/0002: retries and results are committed with the acknowledgement, delays wait in the queue and not in a worker,
and the dead are noticed by their lease.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from queue import Empty
from typing import Any, cast

import dramatiq
from dramatiq import Message, MessageProxy
from dramatiq.common import current_millis
from dramatiq.errors import ConnectionClosed, QueueJoinTimeout
from dramatiq.middleware import Middleware, MiddlewareError
from structlog.stdlib import get_logger

from shared.broker.channel import Channel
from shared.broker.consumer import JobConsumer
from shared.broker.leases import LeaseThread
from shared.broker.message import JobMessage, encode_error, encode_message
from shared.broker.outage_log import OutageLog
from shared.broker.relay import RelayThread
from shared.broker.signals import Handler, Signals
from shared.broker.slots import UNBOUNDED, Slots
from shared.broker.waker import WakeThread
from shared.broker.work_queue import WorkQueue
from shared.contracts.priority import PRIORITY_MAX, PRIORITY_MIN
from shared.contracts.queue import QueueContract
from shared.engine.engine import Engine, Finish, LeaseStatus, NewJob, Outcome
from shared.engine.keys import new_job_id
from shared.engine.record import to_json
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from shared.errors import EngineUnavailable, JobNotFound, WrongState

log = get_logger(__name__)

#: tries of an enqueue before the caller is told; repeats are safe, since they carry the same job id
ENQUEUE_TRIES = 3


class JobBroker(dramatiq.Broker):
    """A Dramatiq broker with honest job states.

    Args:
        engine: the queue server; or give ``url``.
        url: ``redis://``, ``rediss://`` or ``unix://`` URL of the queue server.
        namespace: prefix of every key, with ``url``.
        middleware: as for every Dramatiq broker; Dramatiq's own default when None.
        queues: contracts of the queues that have one.
        lease_s: how long this process may be silent before its jobs are given to others, seconds.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        *,
        url: str | None = None,
        namespace: str = "cb",
        middleware: list[Middleware] | None = None,
        queues: Mapping[str, QueueContract] | None = None,
        lease_s: float = 30.0,
    ) -> None:
        self._signals: Signals | None = None
        super().__init__(middleware=middleware)
        if engine is None:
            engine = RedisEngine.from_url(url or "redis://127.0.0.1:6379/0", namespace)
        self.engine = engine
        # Jobs are stored with it among values that are parted by spaces.
        host = "-".join(socket.gethostname().split())
        self.worker_name = f"{host}:{os.getpid()}:{secrets.token_hex(3)}"
        self.lease_ms = int(lease_s * 1000)
        self._contracts = dict(queues or {})
        self._outages = OutageLog()
        self._running = _Running()
        self._slots: Slots | None = None
        self._worker: dramatiq.Worker | None = None
        self._channels: dict[str, Channel] = {}
        self._messages: dict[str, JobMessage] = {}
        self._leases: LeaseThread | None = None
        self._waker: WakeThread | None = None
        self._relay: RelayThread | None = None
        self._draining = False
        self.add_middleware(_Lifecycle(self))

    # -- declaring --

    def declare_queue(self, queue_name: str) -> None:
        """See :meth:`dramatiq.Broker.declare_queue`."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = self._contracts.get(queue_name) or QueueContract(
                queue_name, concurrency=UNBOUNDED
            )
            self.emit_after("declare_queue", queue_name)

    # -- producing --

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """See :meth:`dramatiq.Broker.enqueue`.

        What is enqueued after a run, while its middleware settles it (pipelines, callbacks), is added together with
        the acknowledgement, and a message that enqueues itself (retries) becomes that acknowledgement's outcome:
        neither can be lost, or done twice, between the two.

        Raises:
            ConnectionClosed: the queue server does not answer; nothing may have been enqueued.
        """
        held = message if isinstance(message, JobMessage) else None
        message = message.copy()
        eta = message.options.pop("eta", None)
        if delay is None and isinstance(eta, int | float):
            delay = max(0, int(eta) - current_millis())
        self.declare_queue(message.queue_name)
        self.emit_before("enqueue", message, delay)
        if held is not None and held is self._running.message:
            held.outcome = _retry(held, message, delay or 0)
        else:
            job = self._new_job(message, delay or 0)
            settling = self._running.settling
            if settling is not None:
                settling.followers.append(job)
            else:
                self._add(job)
        self.emit_after("enqueue", message, delay)
        return message

    def _new_job(self, message: Message[Any], delay_ms: int) -> NewJob:
        actor = self.actors.get(message.actor_name)
        priority = message.options.get("broker_priority", actor.priority if actor else 0)
        return NewJob(
            id=new_job_id(message.queue_name),
            name=message.actor_name,
            body=encode_message(message),
            priority=max(PRIORITY_MIN, min(PRIORITY_MAX, int(priority))),
            delay_ms=delay_ms,
        )

    def _add(self, job: NewJob) -> None:
        queue = job.id[:-27]
        for attempt in range(1, ENQUEUE_TRIES + 1):
            try:
                self.engine.add(queue, [job])
            except EngineUnavailable as error:
                if attempt == ENQUEUE_TRIES:
                    raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
                time.sleep(0.05 * attempt)
            else:
                return

    # -- consuming --

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> JobConsumer:  # noqa: ARG002
        """See :meth:`dramatiq.Broker.consume`. ``prefetch`` has no say: a job is fetched when a thread is free."""
        return JobConsumer(
            self._channel(queue_name),
            timeout_s=timeout / 1000,
            is_private=self._is_private,
            started=self._started,
            ended=self._ended,
        )

    def _channel(self, queue_name: str) -> Channel:
        channel = self._channels.get(queue_name)
        if channel is None:
            if self._slots is None:
                # Consumed without a Worker, as some tests of programs do.
                self._slots = Slots(UNBOUNDED)
            channel = self._channels[queue_name] = Channel(
                self.engine,
                self.queues[queue_name],
                worker=self.worker_name,
                slots=self._slots,
                lease_ms=self.lease_ms,
                on_listen=self._listen,
                on_stuck=self._hand_back_unstarted,
                on_steps=self._take_steps,
                outages=self._outages,
            )
            if self._draining:
                # Dramatiq's consumers begin on threads of their own, perhaps after the order to stop.
                channel.drain()
                channel.stop()
        return channel

    def _listen(self) -> None:
        if self._waker is not None:
            self._waker.listen()

    def _take_steps(self, queue_name: str) -> None:
        if self._relay is not None:
            self._relay.relay(queue_name)

    def _is_private(self, actor_name: str) -> bool:
        actor = self.actors.get(actor_name)
        return actor is not None and "contract" in actor.options

    def _started(self, message: JobMessage) -> None:
        self._messages[message.job.id] = message

    def _ended(self, message: JobMessage) -> None:
        # A job that was lost may have come again, under another lease.
        if self._messages.get(message.job.id) is message:
            self._messages.pop(message.job.id, None)

    def _notice(self, job_id: str, status: LeaseStatus) -> None:
        message = self._messages.get(job_id)
        if message is not None and message.context is not None:
            message.context.notice(status)

    # -- what runs on this thread --

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """See :meth:`dramatiq.Broker.emit_before`; takes note of the message that this thread runs."""
        if signal == "process_message":
            self._running.message = args[0]
            self._running.began = time.monotonic()
        for middleware, handler in self._handlers("before_" + signal):
            try:
                handler(self, *args, **kwargs)
            except MiddlewareError:
                raise
            except Exception:
                self.logger.critical("Unexpected failure in before_%s of %r.", signal, middleware, exc_info=True)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """See :meth:`dramatiq.Broker.emit_after`; what is enqueued meanwhile belongs to the message being settled."""
        if signal not in ("process_message", "skip_message"):
            self._after(signal, *args, **kwargs)
            return
        message = args[0]
        if isinstance(message, JobMessage):
            message.error = kwargs.get("exception")
            self._running.settling = message
        try:
            self._after(signal, *args, **kwargs)
        finally:
            self._running.settling = None
            self._running.message = None
            if self._slots is not None:
                self._slots.ran(time.monotonic() - self._running.began)

    def _after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        for middleware, handler in reversed(self._handlers("after_" + signal)):
            try:
                handler(self, *args, **kwargs)
            except Exception:
                self.logger.critical("Unexpected failure in after_%s of %r.", signal, middleware, exc_info=True)

    def _handlers(self, signal: str) -> list[tuple[Middleware, Handler]]:
        signals = self._signals
        if signals is None or not signals.knows(self.middleware):
            signals = self._signals = Signals(self.middleware)
        return signals.handlers(signal)

    @property
    def current(self) -> JobMessage | None:
        """The job that the calling worker thread runs."""
        return self._running.message

    # -- what a look at the process's health needs --

    @property
    def channels(self) -> list[Channel]:
        """The queues that are consumed."""
        return list(self._channels.values())

    @property
    def lease_thread(self) -> LeaseThread | None:
        """The thread that keeps leases, once there is a worker."""
        return self._leases

    @property
    def wake_thread(self) -> WakeThread | None:
        """The thread that waits for work on idle queues, once there is a worker."""
        return self._waker

    @property
    def idle_threads(self) -> int:
        """Worker threads that wait for a job. Asked of the threads and not of the slots, which a fault may hold."""
        return cast("WorkQueue[Any]", self._worker.work_queue).sleepers if self._worker is not None else 0

    # -- the worker's life --

    def boot(self, worker: dramatiq.Worker) -> None:
        """Get ready to consume with a worker's threads."""
        self._worker = worker
        # Dramatiq makes its threads after this, and gives them this queue.
        worker.work_queue = WorkQueue()
        self._slots = Slots(worker.worker_threads)
        self._draining = False
        self._channels.clear()
        self._leases = LeaseThread(
            self.engine,
            lambda: list(self._channels.values()),
            lease_ms=self.lease_ms,
            notice=self._notice,
            outages=self._outages,
        )
        self._waker = WakeThread(self.engine, self.worker_name, lambda: dict(self._channels))
        self._relay = RelayThread(self.engine)
        for thread in (self._leases, self._waker, self._relay):
            thread.start()

    def drain(self) -> None:
        """Fetch nothing any more, and hand back what no thread has begun."""
        self._draining = True
        channels = list(self._channels.values())
        for channel in channels:
            channel.drain()
            # Before anything is handed back: the server may be gone.
            channel.stop()
        self._hand_back_unstarted()

    def _hand_back_unstarted(self) -> None:
        # At a stop, Worker.stop would do so as well, but only after the last running job has ended: minutes, perhaps.
        if self._worker is None:
            return
        unstarted: dict[str, list[JobMessage]] = defaultdict(list)
        with contextlib.suppress(Empty):
            while True:
                message = cast("JobMessage", self._worker.work_queue.get_nowait().message)
                self._worker.work_queue.task_done()
                unstarted[message.queue_name].append(message)
        for queue_name, messages in unstarted.items():
            try:
                self._channels[queue_name].release([message.job for message in messages])
            except Exception:
                # They are left to the reaper; those of the other queues need not be.
                log.exception("not_handed_back", queue=queue_name, jobs=len(messages))
            for message in messages:
                self._ended(message)

    def halt(self) -> None:
        """End the threads of :meth:`boot`."""
        if self._waker is not None:
            self._waker.stop()
        if self._leases is not None:
            self._leases.stop()
        if self._relay is not None:
            self._relay.stop()
        for channel in self._channels.values():
            channel.pass_on()
        self._channels.clear()
        self._messages.clear()

    def close(self) -> None:
        """See :meth:`dramatiq.Broker.close`."""
        self.halt()
        self.engine.close()

    # -- for tests of programs --

    def flush(self, queue_name: str) -> None:
        """See :meth:`dramatiq.Broker.flush`."""
        for state in (State.WAITING, State.DELAYED):
            while page := self.engine.list(queue_name, state, limit=200).jobs:
                for job in page:
                    # A worker may be faster; then there is nothing left to drop.
                    with suppress(JobNotFound, WrongState):
                        self.engine.remove(job.id)

    def flush_all(self) -> None:
        """See :meth:`dramatiq.Broker.flush_all`."""
        for queue_name in self.queues:
            self.flush(queue_name)

    def join(self, queue_name: str, *, interval: int = 20, timeout: int | None = None) -> None:
        """See :meth:`dramatiq.Broker.join`; delayed jobs count as work.

        Raises:
            QueueJoinTimeout: when ``timeout`` (milliseconds) runs out first.
        """
        deadline = None if timeout is None else time.monotonic() + timeout / 1000
        while True:
            # What the last run left behind may be on its way to this very queue.
            if self._is_idle(queue_name) and not self.engine.relay(queue_name) and self._is_idle(queue_name):
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise QueueJoinTimeout(queue_name)  # type: ignore[no-untyped-call]
            time.sleep(interval / 1000)

    def _is_idle(self, queue_name: str) -> bool:
        counts = self.engine.counts(queue_name)
        return not (counts.waiting or counts.delayed or counts.active)


class _Running(threading.local):
    """What a thread is doing."""

    message: JobMessage | None = None
    #: monotonic seconds
    began: float = 0.0
    settling: JobMessage | None = None


class _Lifecycle(Middleware):
    """Ties the broker's own threads to the life of Dramatiq's worker."""

    def __init__(self, broker: JobBroker) -> None:
        self._broker = broker

    def before_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:  # noqa: ARG002
        self._broker.boot(worker)

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:  # noqa: ARG002
        self._broker.drain()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:  # noqa: ARG002
        self._broker.halt()


def _retry(held: JobMessage, message: Message[Any] | MessageProxy, delay_ms: int) -> Finish:
    if held.error is not None:
        data = encode_error(held.error, retryable=True)
    else:
        data = to_json({"type": "Requeued", "message": "The message enqueued itself again.", "retryable": True})
    return Finish(
        held.job.id, held.job.token, Outcome.RETRY, delay_ms=delay_ms, data=data, body=encode_message(message)
    )
