"""The event hub: one reader of the queue server for all who watch, however many they are."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from services.api.errors import TooManyStreams
from shared.engine.engine import Engine, Event
from shared.engine.events import order_of
from shared.errors import EngineUnavailable

#: longest wait in one read; a queue that is newly watched joins at the next read
BLOCK_MS = 1_000
#: events that wait for a subscriber before it is dropped as too slow
BACKLOG = 1_000
#: waits between reads while the server is away: the first and the longest
RETRY_FIRST_S, RETRY_LONGEST_S = 0.05, 2.0

_log = structlog.get_logger(__name__)


class SubscriptionClosed(Exception):
    """The subscription has ended.

    Attributes:
        reason: ``slow`` (the subscriber did not keep up) or ``stopping`` (the server shuts down).
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Notice:
    """An event on its way to subscribers, with what they all share of it."""

    __slots__ = ("event", "frames", "positions")

    def __init__(self, event: Event, positions: Mapping[str, str]) -> None:
        self.event = event
        #: how far every queue was read when this happened
        self.positions = positions
        #: the event as it is sent to those who watch the same queues, filled by the first of them
        self.frames: dict[tuple[str, ...], bytes] = {}


class Subscription:
    """One watcher's queue of notices, bounded."""

    def __init__(self, queues: frozenset[str], job_id: str | None, backlog: int) -> None:
        self.queues = queues
        #: how far each queue was read when the subscription began
        self.start: dict[str, str] = {}
        self._job_id = job_id
        self._backlog = backlog
        self._notices: deque[Notice] = deque()
        self._reason: str | None = None
        self._changed = threading.Condition()

    def offer(self, notice: Notice) -> None:
        """Take a notice in, unless it is of another job; never waits for the watcher."""
        if self._job_id is not None and notice.event.job_id != self._job_id:
            return
        with self._changed:
            if self._reason is not None:
                return
            if len(self._notices) >= self._backlog:
                self._end("slow")
                return
            self._notices.append(notice)
            self._changed.notify()

    def get(self, timeout_s: float) -> Notice | None:
        """Wait for the next notice; None when none came in time.

        Raises:
            SubscriptionClosed
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self._notices:
                if self._reason is not None:
                    raise SubscriptionClosed(self._reason)
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return None
                self._changed.wait(remaining)
            return self._notices.popleft()

    def close(self, reason: str) -> None:
        """End the subscription."""
        with self._changed:
            self._end(reason)

    def _end(self, reason: str) -> None:
        # What waits is given up: a watcher that is told "slow" has a gap from here on and must not think otherwise.
        self._notices.clear()
        self._reason = self._reason or reason
        self._changed.notify()


class EventHub:
    """Reads the event streams of the watched queues and hands each event to those who asked for it.

    Nothing is read while nobody watches. The reader survives outages of the server and goes on where it was.

    Args:
        engine: the queue.
        max_subscribers: watchers at once; each holds a thread of the process.
        backlog: events that may wait for one watcher.
    """

    def __init__(self, engine: Engine, *, max_subscribers: int = 48, backlog: int = BACKLOG) -> None:
        self._engine = engine
        self._max_subscribers = max_subscribers
        self._backlog = backlog
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._positions: dict[str, str] = {}
        self._watchers: dict[str, set[Subscription]] = {}
        self._subscribers = 0
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    @contextmanager
    def subscribe(self, queues: Iterable[str], job_id: str | None = None) -> Iterator[Subscription]:
        """Watch queues, or one job of them; every event after this call is given.

        Raises:
            TooManyStreams, EngineUnavailable
        """
        subscription = Subscription(frozenset(queues), job_id, self._backlog)
        self._enter(subscription)
        try:
            yield subscription
        finally:
            self._leave(subscription)

    def close(self) -> None:
        """End every subscription and the reader. Nothing can be watched afterwards."""
        self._stopped.set()
        with self._lock:
            for subscription in {each for watchers in self._watchers.values() for each in watchers}:
                subscription.close("stopping")
            self._changed.notify_all()

    def _enter(self, subscription: Subscription) -> None:
        with self._lock:
            if self._subscribers >= self._max_subscribers or self._stopped.is_set():
                raise TooManyStreams(
                    f"This server follows {self._max_subscribers} event streams, as many as it can: "
                    "close one, or poll the job instead.",
                    retry_after_s=10,
                )
            self._subscribers += 1
        start: dict[str, str] = {}
        try:
            while missing := self._join(subscription, start):
                # Asked without the lock: a server that hangs must hold up nobody else.
                start.update({queue: self._engine.last_event(queue) for queue in missing})
        except BaseException:
            with self._lock:
                self._subscribers -= 1
            raise

    def _join(self, subscription: Subscription, start: Mapping[str, str]) -> frozenset[str]:
        """Hand events to a subscription from now on; gives the queues whose position is needed for it, if any."""
        with self._lock:
            missing = subscription.queues - self._positions.keys() - start.keys()
            if missing:
                return missing
            for queue in subscription.queues:
                self._watchers.setdefault(queue, set()).add(subscription)
                if queue not in self._positions:
                    self._positions[queue] = start[queue]
            subscription.start = {queue: self._positions[queue] for queue in subscription.queues}
            if self._thread is None:
                # Started here and not with the application: a server that forks would lose the thread.
                self._thread = threading.Thread(target=self._run, name="event-hub", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            return missing

    def _leave(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscribers -= 1
            for queue in subscription.queues:
                watchers = self._watchers[queue]
                watchers.discard(subscription)
                if not watchers:
                    del self._watchers[queue], self._positions[queue]

    def _run(self) -> None:
        pause = RETRY_FIRST_S
        while not self._stopped.is_set():
            with self._lock:
                while not self._positions and not self._stopped.is_set():
                    self._changed.wait()
                positions = dict(self._positions)
            if self._stopped.is_set():
                return
            try:
                events = self._engine.events(positions, block_ms=BLOCK_MS)
            except Exception as error:  # noqa: BLE001 - whatever it is, those who watch need the reader to go on
                if not isinstance(error, EngineUnavailable):
                    _log.error("event reader failed", exc_info=error)
                self._stopped.wait(pause)
                pause = min(pause * 2, RETRY_LONGEST_S)
                continue
            pause = RETRY_FIRST_S
            self._dispatch(events)

    def _dispatch(self, events: Iterable[Event]) -> None:
        with self._lock:
            for event in events:
                known = self._positions.get(event.queue)
                # The queue may have been left, and entered again further on, while the read was under way.
                if known is None or not is_after(event.id, known):
                    continue
                self._positions[event.queue] = event.id
                notice = Notice(event, dict(self._positions))
                for subscription in self._watchers[event.queue]:
                    subscription.offer(notice)


def is_after(event_id: str, position: str) -> bool:
    """Whether an event lies behind a position of the same queue."""
    return order_of(event_id) > order_of(position)
