"""Following one job to its end, over connections that break."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import cast

import httpx

from shared.client.answers import FINISHED, Job
from shared.client.connection import Connection
from shared.client.errors import ApiError, ApiUnreachable, WaitTimedOut
from shared.client.events import Event, parse_events

#: a stream that says nothing for this long is taken for dead, seconds; the server gives a sign of life far more often
SILENCE_S = 45.0
#: how long a server may be away before the wait is given up, seconds
OUTAGE_S = 60.0
#: pauses between two looks at a job whose stream is broken, seconds: the first, and the longest
POLL_FIRST_S, POLL_LONGEST_S = 0.1, 5.0
#: answers about a job that no waiting will change; about its stream they may be a proxy's, so they are no reason there
_LASTING = frozenset({401, 403, 404})

OnProgress = Callable[[Job], object]
OnTrouble = Callable[[ApiError | ApiUnreachable], object]


def stream_events(
    connection: Connection, path: str, *, last_event_id: str | None = None, read_timeout_s: float = SILENCE_S
) -> Generator[Event, None, None]:
    """Read one stream of events until it ends or breaks; heartbeats included.

    Raises:
        ApiError: the server refused, or its answer is no stream of events.
        ApiUnreachable: nothing answered, or the connection broke.
    """
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    with connection.stream(path, headers=headers, read_timeout_s=read_timeout_s) as response:
        _check_stream(response)
        try:
            yield from parse_events(response.iter_bytes())
        except ValueError:
            raise ApiError(
                "The stream of events holds an event that is not JSON.", code="bad-event", status=502
            ) from None


class Follower:
    """Waits for one job.

    The stream tells every change at once and begins with the state as it is, but a stream can break, and its end be
    missed. So the job itself is read whenever the stream ends, breaks, or only gives a sign of life, and that reading
    alone decides that the job has finished.

    Args:
        connection: to the API.
        path: of the job.
        on_progress: called with the job whenever something about it changed.
        on_trouble: called when the stream broke or a look at the job failed, before the next try.
        timeout_s: give up after this many seconds; None waits for ever.
    """

    def __init__(
        self,
        connection: Connection,
        path: str,
        *,
        on_progress: OnProgress | None,
        on_trouble: OnTrouble | None,
        timeout_s: float | None,
    ) -> None:
        self._connection = connection
        self._path = path
        self._on_progress = on_progress or (lambda _job: None)
        self._on_trouble = on_trouble or (lambda _error: None)
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._last_event_id: str | None = None
        self._shown: Job | None = None
        self._lost_at: float | None = None

    def run(self) -> Job:
        """Wait for the end of the job.

        Raises:
            ApiError: there is no such job, or the server refused for another lasting reason.
            ApiUnreachable: the server was away for longer than ``OUTAGE_S``, or from the start.
            WaitTimedOut
        """
        job = self._read()
        pause = POLL_FIRST_S
        while job["state"] not in FINISHED:
            opened = time.monotonic()
            job = self._listen(job)
            if job["state"] not in FINISHED:
                job = self._read_or_bear(job)
            if job["state"] not in FINISHED:
                # A stream that lasted was worth having; one that ends at once must not be asked for in a tight loop.
                pause = POLL_FIRST_S if time.monotonic() - opened > POLL_LONGEST_S else pause
                self._sleep(pause)
                pause = min(pause * 2, POLL_LONGEST_S)
        return job

    def _listen(self, job: Job) -> Job:
        """Follow the stream until it ends or breaks, or the job does; gives the job as last seen."""
        try:
            with closing(self._events()) as events:
                for event in events:
                    self._lost_at = None
                    self._last_event_id = event.id or self._last_event_id
                    job = self._take(event, job)
                    if job["state"] in FINISHED or (event.heartbeat and self._remaining() < SILENCE_S):
                        break  # in the second case the next silence would outlast the deadline: connect anew, for less
                    self._remaining()
        except (ApiError, ApiUnreachable) as error:
            self._bear(error)
        return job

    def _take(self, event: Event, job: Job) -> Job:
        """Give the job after an event, which carries all of it that changes but its attempts."""
        told = event.data if isinstance(event.data, dict) else {}
        if told.get("state") is None or told["state"] in FINISHED:
            return self._read()
        job = cast(Job, {**job, **told})
        self._show(job)
        return job

    def _events(self) -> Generator[Event, None, None]:
        return stream_events(
            self._connection,
            f"{self._path}/progress",
            last_event_id=self._last_event_id,
            read_timeout_s=min(SILENCE_S, self._remaining()),
        )

    def _read(self) -> Job:
        job = cast(Job, self._connection.json("GET", self._path))
        self._show(job)
        return job

    def _read_or_bear(self, job: Job) -> Job:
        try:
            job = self._read()
        except (ApiError, ApiUnreachable) as error:
            if error.status in _LASTING:
                raise
            self._bear(error)
        else:
            self._lost_at = None
        return job

    def _show(self, job: Job) -> None:
        if job != self._shown:
            self._shown = job
            self._on_progress(job)

    def _bear(self, error: ApiError | ApiUnreachable) -> None:
        """Go on in spite of an error, but not for ever."""
        now = time.monotonic()
        self._lost_at = self._lost_at or now
        if now - self._lost_at > OUTAGE_S:
            raise error
        self._on_trouble(error)

    def _remaining(self) -> float:
        """Seconds until the deadline.

        Raises:
            WaitTimedOut: it has passed.
        """
        if self._deadline is None:
            return float("inf")
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise WaitTimedOut(f"The job has not finished within {self._timeout_s:g} s.")
        return remaining

    def _sleep(self, pause: float) -> None:
        time.sleep(min(pause, self._remaining()))
        self._remaining()


def _check_stream(response: httpx.Response) -> None:
    kind = response.headers.get("Content-Type", "")
    if not kind.startswith("text/event-stream"):
        raise ApiError(f"The answer is {kind or 'of no type'}, not a stream of events.", code="no-stream", status=502)
