"""Streams of events: of one job until it ends, and of queues for as long as somebody listens."""

from __future__ import annotations

import re
import zlib
from collections.abc import Generator, Mapping
from typing import Any

from flask import Response, request

from services.api.backend import Backend
from services.api.documents import progress_document, status_document, timestamp
from services.api.hub import Notice, Subscription, is_after
from services.api.sse import EVENT_STREAM, HEARTBEAT, EventStream, dropped, frame, last_event_id, stream_response
from shared.engine.engine import Event, JobRecord
from shared.engine.keys import split_job_id
from shared.engine.states import FINISHED
from shared.errors import EngineUnavailable

#: id of the last event of a job's stream; a client that saw it and comes again is told that there is no more
_END = "end"
#: events read at once for a client that comes again
_CATCH_UP = 500
#: a position in a queue's stream; at most what the server reads as one
_POSITION = re.compile(r"\d{1,19}(-\d{1,19}(\.\d{1,4})?)?", re.ASCII)


def wants_stream(flag: bool) -> bool:
    """Whether the client asked for a stream: by ``?stream``, or because it would rather have one than JSON."""
    return flag or request.accept_mimetypes.best_match(["application/json", EVENT_STREAM]) == EVENT_STREAM


# -- one job --


def follow_job(the: Backend, job_id: str) -> Response:
    """Answer with a job's state now and each change of it, until it ends."""
    record = the.read(job_id)
    if last_event_id() == _END and record.state.finished:
        # 204 is how a server tells an EventSource to stop coming again.
        return Response(status=204)
    queue, _ = split_job_id(job_id)

    def script(subscription: Subscription) -> Generator[bytes, None, None]:
        yield from _job_frames(the, job_id, subscription)

    return stream_response(EventStream(the.hub.subscribe([queue], job_id), script))


def _job_frames(the: Backend, job_id: str, subscription: Subscription) -> Generator[bytes, None, None]:
    try:
        # The position is asked for before the state: what happened up to it is in the state, and isn't told again.
        position = the.engine.last_event(split_job_id(job_id)[0])
        status = _status(the, the.engine.get(job_id))
        yield _status_frame("state", position, status, job_id)
        while status is not None and status["state"] not in FINISHED:
            notice = subscription.get(the.settings.heartbeat_s)
            if notice is None:
                yield HEARTBEAT
                continue
            event = notice.event
            if not is_after(event.id, position):
                continue
            if event.name == "progress":
                status = {**status, "progress": progress_document(event.data.get("progress"))}
            else:
                status = _status(the, the.engine.get(job_id))
            yield _status_frame(event.name, event.id, status, job_id)
    except EngineUnavailable:
        yield dropped("queue-unavailable")


def _status(the: Backend, record: JobRecord | None) -> dict[str, Any] | None:
    return None if record is None else status_document(record, the.contract(record))


def _status_frame(name: str, position: str, status: dict[str, Any] | None, job_id: str) -> bytes:
    if status is None:
        # Deleted, or not kept: then the event is all that is known of its end.
        ended = name if name in FINISHED else None
        return frame(ended or "removed", {"id": job_id, "state": ended}, _END)
    if status["state"] not in FINISHED:
        return frame(name, status, position)
    # The event may be older than the state it led us to read; what is told is the truth of now.
    return frame(name if name == "state" else status["state"], status, _END)


# -- queues --


def follow_queues(the: Backend, queues: tuple[str, ...]) -> Response:
    """Answer with the events of queues, from now or from where the client was."""
    resume = _read_positions(last_event_id() or "", queues)

    def script(subscription: Subscription) -> Generator[bytes, None, None]:
        yield from _queue_frames(the, queues, resume, subscription)

    return stream_response(EventStream(the.hub.subscribe(queues), script))


def _queue_frames(
    the: Backend, queues: tuple[str, ...], resume: Mapping[str, str] | None, subscription: Subscription
) -> Generator[bytes, None, None]:
    # A stream that goes on starts where the client was, a new one with what comes now; both say where that is.
    seen = dict(resume) if resume is not None else subscription.start
    yield frame("ready", {"queues": list(queues), "resumed": resume is not None}, _write_positions(seen, queues))
    if resume is not None:
        try:
            yield from _missed(the, queues, seen)
        except EngineUnavailable:
            yield dropped("queue-unavailable")
            return
    while True:
        notice = subscription.get(the.settings.heartbeat_s)
        if notice is None:
            yield HEARTBEAT
        elif is_after(notice.event.id, seen[notice.event.queue]):
            yield _notice_frame(notice, queues)


def _missed(the: Backend, queues: tuple[str, ...], seen: dict[str, str]) -> Generator[bytes, None, None]:
    """Tell what happened since the client was here last; the subscription collects the rest meanwhile."""
    while True:
        events = the.engine.events(seen, block_ms=1, limit=_CATCH_UP)
        for event in events:
            seen[event.queue] = event.id
            yield frame(event.name, _event_document(event), _write_positions(seen, queues))
        if len(events) < _CATCH_UP:
            return


def _notice_frame(notice: Notice, queues: tuple[str, ...]) -> bytes:
    # Encoded once for all who follow the same queues.
    made = notice.frames.get(queues)
    if made is None:
        position = _write_positions(notice.positions, queues)
        made = notice.frames[queues] = frame(notice.event.name, _event_document(notice.event), position)
    return made


def _event_document(event: Event) -> dict[str, Any]:
    data = dict(event.data)
    if "progress" in data:
        data["progress"] = progress_document(data["progress"])
    if "due_ms" in data:
        data["due_at"] = timestamp(data.pop("due_ms"))
    at_ms = int(event.id.partition("-")[0])
    return {"event": event.name, "queue": event.queue, "job_id": event.job_id, "at": timestamp(at_ms), **data}


def _write_positions(positions: Mapping[str, str], queues: tuple[str, ...]) -> str:
    """Write how far queues were read as one id: a checksum of their names, and the position in each."""
    return ".".join([_checksum(queues), *(positions[queue] for queue in queues)])


def _read_positions(text: str, queues: tuple[str, ...]) -> dict[str, str] | None:
    """Read what :func:`_write_positions` wrote; None when it is nothing of that, or was written for other queues.

    That is no error to answer with: an EventSource gives up for good when it gets one, while its id is merely of an
    earlier version of this server.
    """
    checksum, *positions = text.split(".")
    if checksum != _checksum(queues) or len(positions) != len(queues):
        return None
    if not all(_POSITION.fullmatch(position) for position in positions):
        return None
    return dict(zip(queues, positions, strict=True))


def _checksum(queues: tuple[str, ...]) -> str:
    return f"{zlib.crc32(' '.join(queues).encode()):08x}"
