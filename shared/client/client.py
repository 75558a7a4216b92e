"""The API as methods."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote

import httpx

from shared.client.answers import Job, JobPage, JobType, LogLine, Queue, StoredFile
from shared.client.connection import Connection
from shared.client.errors import ApiError, ApiUnreachable
from shared.client.events import Event
from shared.client.files import CHUNK_BYTES, OnBytes, file_chunks, file_size
from shared.client.following import Follower, OnProgress, OnTrouble, stream_events
from shared.errors import ValidationFailed

_API = "/api/v1"


class Client:
    """The API of one server. Close it, or use it as a context manager; it may be used by one thread at a time.

    Args:
        base_url: where the API answers, e.g. ``http://127.0.0.1:8000``.
        key: API key; empty sends none.
        timeout_s: longest wait for any one step of an exchange, seconds.
        retry_for_s: how long a call that can do no harm is repeated while the server is away or busy, seconds.
        transport: replaces the network, e.g. by ``httpx.WSGITransport`` in a test.

    Raises:
        ValidationFailed: when the address or the key cannot be one.

    Every method may raise :class:`ApiError` when the server refuses and :class:`ApiUnreachable` when none answers.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        timeout_s: float = 30.0,
        retry_for_s: float = 5.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._connection = Connection(base_url, key, timeout_s=timeout_s, retry_for_s=retry_for_s, transport=transport)

    def __repr__(self) -> str:
        return f"Client({self.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """Where the API answers."""
        return self._connection.base_url

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    # -- files --

    def upload(
        self, path: str | os.PathLike[str], name: str | None = None, on_progress: OnBytes | None = None
    ) -> StoredFile:
        """Store a file, streaming it from the disk.

        Args:
            path: of the file.
            name: what the server calls it; the file's own name when left out.
            on_progress: called as the bytes go out.

        Raises:
            OSError: when the file cannot be read.
        """
        path = Path(path)
        # A name in bytes that are no text still has to be sent as some text.
        name = (name or path.name).encode("utf-8", "replace").decode()
        with path.open("rb") as file:
            size = file_size(file)
            headers = {"Content-Type": "application/octet-stream"}
            if size is not None:
                headers["Content-Length"] = str(size)
            try:
                answer = self._connection.json(
                    "POST",
                    f"{_API}/files",
                    params={"name": name},
                    body=lambda: file_chunks(file, size, on_progress),
                    headers=headers,
                )
            except ApiUnreachable as error:
                if not error.refused:
                    # A server that refuses strangers hangs up on their uploads, which can drown its answer: ask again,
                    # with nothing to send.
                    self.queues()
                raise
        return cast(StoredFile, answer)

    def download(self, file_id: str, path: str | os.PathLike[str], on_progress: OnBytes | None = None) -> Path:
        """Save a stored file, replacing what is at the path; the file appears there only when it is whole.

        Raises:
            OSError: when it cannot be written.
        """
        target = Path(path)
        part = target.with_name(f".{target.name}.part-{os.getpid()}")
        try:
            with self._connection.stream(f"{_API}/files/{_segment(file_id, 'file id')}/content") as response:
                total = int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
                received = 0
                with part.open("wb") as out:
                    for chunk in response.iter_bytes(CHUNK_BYTES):
                        out.write(chunk)
                        received += len(chunk)
                        if on_progress:
                            on_progress(received, total)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target

    # -- jobs --

    def submit(self, type: str, payload: dict[str, Any], **options: Any) -> Job:
        """Add a job.

        It is sent again only when the connection was refused: after anything else it may have been added already.

        Args:
            type: job type, e.g. ``imports.excel``.
            payload: its input.
            **options: ``priority``, ``delay_s``, ``run_at``, ``attempts``, ``tags``, ``owner`` …, as in the API.
        """
        body: dict[str, Any] = {"type": type, "payload": payload}
        if options:
            body["options"] = options
        return cast(Job, self._connection.json("POST", f"{_API}/jobs", json=body))

    def job(self, job_id: str) -> Job:
        """Read a job."""
        return cast(Job, self._connection.json("GET", _job(job_id)))

    def page(
        self,
        *,
        queue: str | None = None,
        state: str | None = None,
        type: str | None = None,
        order: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> JobPage:
        """Read a part of the list of jobs: running ones, then those that will run, then finished ones.

        Args:
            queue: only of this queue.
            state: only in this state.
            type: only of this type.
            order: within each state and queue, ``oldest`` (first) or ``newest``.
            limit: at most so many, up to 200; a part may be shorter, or empty, and the list go on all the same.
            cursor: ``next_cursor`` of the part before.
        """
        given = {"queue": queue, "state": state, "type": type, "order": order, "limit": limit, "cursor": cursor}
        params = {name: value for name, value in given.items() if value is not None}
        return cast(JobPage, self._connection.json("GET", f"{_API}/jobs", params=params))

    def jobs(
        self, *, queue: str | None = None, state: str | None = None, type: str | None = None, page_size: int = 100
    ) -> Iterator[Job]:
        """Read all jobs, part after part."""
        cursor: str | None = None
        while True:
            page = self.page(queue=queue, state=state, type=type, limit=page_size, cursor=cursor)
            yield from page["jobs"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; a running one is asked to stop, and stays active until it does."""
        return self._steer(job_id, "cancel")

    def retry(self, job_id: str) -> Job:
        """Run a failed or cancelled job again, with all its attempts."""
        return self._steer(job_id, "retry")

    def promote(self, job_id: str) -> Job:
        """Let a delayed job run now."""
        return self._steer(job_id, "promote")

    def remove(self, job_id: str) -> None:
        """Delete a job that is not running."""
        self._connection.json("DELETE", _job(job_id))

    def logs(self, job_id: str) -> list[LogLine]:
        """Read the lines that a job's handler kept with it."""
        return cast(list[LogLine], self._connection.json("GET", f"{_job(job_id)}/logs")["logs"])

    # -- following --

    def wait(
        self,
        job_id: str,
        on_progress: OnProgress | None = None,
        timeout_s: float | None = None,
        *,
        on_trouble: OnTrouble | None = None,
    ) -> Job:
        """Wait until a job has finished, however it ends, and give it.

        Args:
            job_id: of the job.
            on_progress: called with the job whenever something about it changed.
            timeout_s: give up after this many seconds; None waits for ever.
            on_trouble: called when the connection was lost, before it is made again.

        Raises:
            WaitTimedOut: the time is over; the job goes on.
        """
        follower = Follower(
            self._connection, _job(job_id), on_progress=on_progress, on_trouble=on_trouble, timeout_s=timeout_s
        )
        return follower.run()

    def events(
        self, job_id: str | None = None, *, queues: Sequence[str] = (), last_event_id: str | None = None
    ) -> Generator[Event, None, None]:
        """Read events as they happen, until the stream ends or breaks; only :meth:`wait` mends it by itself.

        Args:
            job_id: of a job, whose stream ends with it; None for what happens in queues.
            queues: only in these; all when none is named.
            last_event_id: go on after this event.
        """
        path = f"{_job(job_id)}/progress" if job_id is not None else f"{_API}/events"
        if job_id is None and queues:
            path += f"?queue={quote(','.join(queues))}"
        for event in stream_events(self._connection, path, last_event_id=last_event_id):
            if not event.heartbeat:
                yield event

    # -- queues, types, server --

    def queues(self) -> list[Queue]:
        """Read all queues with their counts."""
        return cast(list[Queue], self._connection.json("GET", f"{_API}/queues")["queues"])

    def queue(self, name: str) -> Queue:
        """Read one queue."""
        return cast(Queue, self._connection.json("GET", _queue(name)))

    def pause(self, name: str) -> Queue:
        """Stop handing out a queue's jobs; running ones go on."""
        return cast(Queue, self._connection.json("POST", f"{_queue(name)}/pause"))

    def resume(self, name: str) -> Queue:
        """Hand a paused queue's jobs out again."""
        return cast(Queue, self._connection.json("POST", f"{_queue(name)}/resume"))

    def types(self) -> list[JobType]:
        """Read the catalogue of job types."""
        return cast(list[JobType], self._connection.json("GET", f"{_API}/types")["types"])

    def ready(self) -> bool:
        """Ask whether the server can take jobs; False when it answers that it cannot, or not at all."""
        try:
            self._connection.json("GET", "/readyz", patient=False)
        except (ApiError, ApiUnreachable):
            return False
        return True

    def _steer(self, job_id: str, action: str) -> Job:
        return cast(Job, self._connection.json("POST", f"{_job(job_id)}/{action}"))


def _segment(value: str, what: str) -> str:
    # A dot segment would be resolved, and ask for something else.
    if not value.strip(". "):
        raise ValidationFailed(f"{value!r} is no {what}.")
    return quote(value, safe="")


def _job(job_id: str) -> str:
    return f"{_API}/jobs/{_segment(job_id, 'job id')}"


def _queue(name: str) -> str:
    return f"{_API}/queues/{_segment(name, 'queue name')}"
