"""Runs jobs on the thread that asks for it: no worker process, the same broker, middleware and contracts.

``shared/inline.py`` finds this module by its name, as ``shared.contracts`` finds the families: services import shared,
and never the other way round.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any, cast

import dramatiq
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.worker import ConsumerThread, WorkerThread

from services.workers.bind import bind
from services.workers.event_loop import DaemonAsyncIO
from services.workers.handlers import load_handler
from services.workers.middleware import run_middleware
from shared.broker.broker import JobBroker
from shared.broker.channel import Channel
from shared.broker.slots import Slots
from shared.contracts import Catalogue
from shared.engine.engine import Engine

#: nobody renews the leases of this process, and none of them may run out, seconds: a year
LEASE_S = 366 * 24 * 3600.0

_LOOP = threading.Lock()


def make_runner(engine: Engine, catalogue: Catalogue) -> InlineWorker:
    """Make what runs the jobs of a catalogue."""
    return InlineWorker(engine, catalogue)


class InlineWorker:
    """See the module. Threads may share it; each runs one job at a time.

    Args:
        engine: the queue.
        catalogue: job types; the code of each is imported when its first job runs.
    """

    def __init__(self, engine: Engine, catalogue: Catalogue) -> None:
        self._broker = _InlineBroker(engine, catalogue)
        self._own = threading.local()

    @property
    def busy(self) -> bool:
        """Whether the calling thread is running a job."""
        return getattr(self._own, "busy", False)

    def close(self) -> None:
        """End the threads that watch over runs."""
        self._broker.end()

    def run_one(self, queue: str) -> str | None:
        """Run the next job of a queue to the end of its attempt; gives its id, None when none may start."""
        channel = self._broker.own_channel(queue)
        if not channel.room.acquire(blocking=False):
            return None
        self._own.busy = True
        try:
            channel.wake()
            message = next(self._broker.consume(queue))
            if message is None:
                return None
            self._run(message)
            return str(message.job.id)
        finally:
            self._own.busy = False
            channel.room.release()

    def _run(self, message: Any) -> None:
        with suppress(Exception):
            # So that its middleware finds the contract; what went wrong is raised again, and stored, by its run.
            self._broker.get_actor(message.actor_name)
        work = _Work()
        consumer = ConsumerThread(
            broker=self._broker,
            queue_name=message.queue_name,
            prefetch=1,
            work_queue=cast("Any", work),
            worker_timeout=0,
        )
        consumer.consumer = self._broker.consume(message.queue_name)
        WorkerThread(
            broker=self._broker,
            consumers={message.queue_name: consumer},
            work_queue=cast("Any", work),
            worker_timeout=0,
        ).process_message(message)


class _Work:
    """Dramatiq's worker thread says here when it is done; the caller sees that anyway."""

    def task_done(self) -> None:
        return


class _OwnChannel(Channel):
    """A queue as one thread sees it: it fetches one job, and commits its end itself."""

    #: how many jobs of the queue this process may run at once
    room: threading.BoundedSemaphore


class _InlineBroker(JobBroker):
    """A broker without threads of its own; what it is asked for by a thread is that thread's."""

    def __init__(self, engine: Engine, catalogue: Catalogue) -> None:
        super().__init__(
            engine,
            middleware=run_middleware(engine, catalogue, event_loop=_OneLoop()),
            queues=catalogue.queues,
            lease_s=LEASE_S,
        )
        self._catalogue = catalogue
        self._binding = threading.RLock()
        self._rooms: dict[str, threading.BoundedSemaphore] = {}
        self._own = threading.local()
        self._began = False

    def get_actor(self, actor_name: str) -> dramatiq.Actor[Any, Any]:
        """Give the actor of a job type, made when it is first asked for.

        Raises:
            ContractError: there is no such handler.
            ActorNotFound: nor such a job type.
        """
        contract = self._catalogue.jobs.get(actor_name)
        if contract is not None and actor_name not in self.actors:
            with self._binding:
                if actor_name not in self.actors:
                    bind(self, contract, load_handler(contract))
        actor: dramatiq.Actor[Any, Any] = super().get_actor(actor_name)
        return actor

    def own_channel(self, queue: str) -> _OwnChannel:
        """Give the calling thread's view of a queue."""
        channels: dict[str, _OwnChannel] | None = getattr(self._own, "channels", None)
        if channels is None:
            channels = self._own.channels = {}
        if queue not in channels:
            with self._binding:
                self.begin()
                self.declare_queue(queue)
                contract = self.queues[queue]
                room = self._rooms.setdefault(queue, threading.BoundedSemaphore(contract.concurrency))
            channels[queue] = _OwnChannel(
                self.engine,
                contract,
                worker=self.worker_name,
                slots=Slots(1),
                lease_ms=self.lease_ms,
                on_listen=lambda: None,
            )
            channels[queue].room = room
        return channels[queue]

    def _channel(self, queue_name: str) -> Channel:
        return self.own_channel(queue_name)

    def boot(self, worker: dramatiq.Worker) -> None:
        """Start nothing: whoever asks for a job fetches it himself, and no lease runs out."""

    def drain(self) -> None:
        """Leave everything as it is: what was fetched is being run."""

    def begin(self) -> None:
        """Let the middleware start what it needs, once."""
        if not self._began:
            self._began = True
            self.emit_after("process_boot")
            self.emit_before("worker_boot", None)
            self.emit_after("worker_boot", None)

    def end(self) -> None:
        """Let the middleware end it."""
        if self._began:
            self.emit_before("worker_shutdown", None)
            self.emit_after("worker_shutdown", None)


class _OneLoop(DaemonAsyncIO):
    """The event loop of async handlers; a process has one, whoever came first, and it stays."""

    def before_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Start the loop, unless there is one."""
        with _LOOP:
            if get_event_loop_thread() is None:
                super().before_worker_boot(broker, worker)

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Leave the loop to others."""
