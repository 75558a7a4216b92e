"""Following a job over streams that break in every way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from shared.client import ApiError, ApiUnreachable, Client, Job, WaitTimedOut
from shared.client.following import OUTAGE_S, POLL_LONGEST_S
from tests.unit.cli.conftest import Clock

JOB: dict[str, Any] = {
    "id": "q.1",
    "type": "t.a",
    "queue": "q",
    "state": "waiting",
    "priority": 3,
    "payload": {"a": 1},
    "options": {},
    "progress": None,
    "result": None,
    "error": None,
    "attempt": 0,
    "attempts_max": 3,
    "attempts": [],
    "created_at": "2026-01-31T12:00:00.000Z",
}
GONE = httpx.Response(404, json={"type": "urn:callboard:problem:job-not-found", "detail": "There is no job 'q.1'."})
DOWN = httpx.Response(503, json={"type": "urn:callboard:problem:queue-unavailable"}, headers={"Retry-After": "5"})


def event(name: str, event_id: str, **changes: Any) -> bytes:
    # What the server sends has neither payload nor options.
    status = {
        name: value for name, value in {**JOB, **changes}.items() if name not in ("payload", "options", "attempts")
    }
    return f"event: {name}\nid: {event_id}\ndata: {json.dumps(status)}\n\n".encode()


def at(percent: float) -> dict[str, Any]:
    return {"percent": percent, "message": None, "data": {}, "at": None}


class Stream(httpx.SyncByteStream):
    """Says what it is told to, and breaks where an exception stands."""

    def __init__(self, *parts: bytes | type[Exception] | Callable[[], object]) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
            elif isinstance(part, type):
                raise part("broken")
            else:
                part()


class Server:
    """Has one job, and a script of answers to those who follow it; without one it serves no streams."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.job = dict(JOB)
        self.streams: list[Stream | httpx.Response] = []
        self.last_event_ids: list[str | None] = []
        self.reads: list[float] = []
        #: called before each look at the job
        self.before_read: Callable[[], object] = lambda: None
        self.answer: httpx.Response | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/progress"):
            self.last_event_ids.append(request.headers.get("Last-Event-ID"))
            if not self.streams:
                return httpx.Response(404, html="a proxy that knows no streams")
            stream = self.streams.pop(0)
            if isinstance(stream, httpx.Response):
                return stream
            return httpx.Response(200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, stream=stream)
        self.reads.append(self.clock.now)
        self.before_read()
        return self.answer or httpx.Response(200, json=self.job)

    def turn(self, **changes: Any) -> None:
        self.job |= changes

    def wait(self, **options: Any) -> tuple[Job, list[tuple[str, float | None]]]:
        seen: list[tuple[str, float | None]] = []

        def note(job: Job) -> None:
            seen.append((job["state"], job["progress"]["percent"] if job["progress"] else None))

        with Client("http://callboard.test", "k", transport=httpx.MockTransport(self)) as client:
            return client.wait("q.1", note, **options), seen


@pytest.fixture
def server(clock: Clock) -> Server:
    return Server(clock)


def finish(server: Server) -> Callable[[], object]:
    return lambda: server.turn(state="completed", attempt=1, result={"read": 3}, progress=at(100))


def test_a_stream_that_holds(server: Server, clock: Clock) -> None:
    server.streams = [
        Stream(
            b"retry: 2500\n\n",
            event("state", "1-0"),
            event("active", "2-0", state="active", attempt=1),
            event("progress", "3-0", state="active", attempt=1, progress=at(40)),
            finish(server),
            event("completed", "end", state="completed", attempt=1),
        )
    ]
    job, seen = server.wait()
    assert seen == [("waiting", None), ("active", None), ("active", 40), ("completed", 100)]
    assert (job["result"], job["payload"]) == ({"read": 3}, {"a": 1})
    assert len(server.reads) == 2, "once for the beginning and once for the end"
    assert clock.pauses == []


def test_a_job_that_has_finished_is_not_followed(server: Server) -> None:
    server.turn(state="failed")
    job, seen = server.wait()
    assert (job["state"], seen) == ("failed", [("failed", None)])
    assert server.last_event_ids == []


@pytest.mark.parametrize("error", [httpx.ReadError, httpx.RemoteProtocolError, httpx.ReadTimeout])
def test_a_stream_that_breaks_goes_on_where_it_was(server: Server, error: type[Exception]) -> None:
    progress = {"state": "active", "attempt": 1}
    server.streams = [
        Stream(event("state", "1-0", **progress), event("progress", "2-0", **progress, progress=at(40))[:-5], error),
        Stream(event("state", "3-0", **progress, progress=at(60)), error),
        Stream(finish(server), event("completed", "end", state="completed")),
    ]
    server.turn(**progress)
    job, seen = server.wait()
    assert server.last_event_ids == [None, "1-0", "3-0"]
    assert job["state"] == "completed"
    assert ("active", 60) in seen


def test_an_end_that_comes_while_the_stream_is_broken_is_seen(server: Server) -> None:
    server.streams = [Stream(event("state", "1-0"), finish(server), httpx.ReadError)]
    job, _ = server.wait()
    assert job["state"] == "completed"
    assert len(server.last_event_ids) == 1, "there was nothing left to follow"


def test_an_end_that_the_stream_forgets_is_seen_at_the_next_sign_of_life(server: Server) -> None:
    def fail_if_read_on() -> None:
        pytest.fail("the sign of life was not followed by a look at the job")

    server.streams = [Stream(event("state", "1-0"), finish(server), b": heartbeat\n\n", fail_if_read_on)]
    assert server.wait()[0]["state"] == "completed"


def test_an_end_told_just_before_the_server_goes_is_believed(server: Server) -> None:
    def go() -> None:
        server.answer = DOWN

    server.streams = [Stream(event("state", "1-0"), finish(server), go, event("completed", "end", state="completed"))]

    def come_back() -> None:
        if len(server.reads) > 6:
            server.answer = None

    server.before_read = come_back
    assert server.wait()[0]["state"] == "completed"


@pytest.mark.parametrize(
    "refusal",
    [
        httpx.Response(200, json={"state": "active"}),
        httpx.Response(406, json={}),
        httpx.Response(503, json={"type": "urn:callboard:problem:too-many-streams"}, headers={"Retry-After": "10"}),
    ],
    ids=["json", "406", "too many streams"],
)
def test_without_streams_the_job_is_asked_for_now_and_then(
    server: Server, clock: Clock, refusal: httpx.Response
) -> None:
    server.streams = [refusal] * 1000
    server.before_read = lambda: finish(server)() if clock.now > 1030 else None
    job, _ = server.wait()
    assert job["state"] == "completed"
    assert clock.pauses[0] < 0.2
    assert clock.pauses == sorted(clock.pauses)
    assert max(clock.pauses) == POLL_LONGEST_S
    assert len(server.reads) < 16


def test_a_server_that_is_away_for_a_while_is_waited_for(server: Server, clock: Clock) -> None:
    troubles: list[str] = []
    server.streams = [Stream(event("state", "1-0"), httpx.ReadError)]

    def outage() -> None:
        server.answer = DOWN if 1000 < clock.now < 1000 + OUTAGE_S - 10 else None
        if clock.now > 1000 + OUTAGE_S:
            finish(server)()

    server.before_read = outage
    job, _ = server.wait(on_trouble=lambda error: troubles.append(error.code))
    assert job["state"] == "completed"
    assert "queue-unavailable" in troubles


def test_a_server_that_stays_away_is_given_up(server: Server, clock: Clock) -> None:
    server.streams = [Stream(event("state", "1-0"), httpx.ReadError)]

    def outage() -> None:
        server.answer = DOWN if len(server.reads) > 1 else None

    server.before_read = outage
    with pytest.raises(ApiError) as caught:
        server.wait()
    assert caught.value.status == 503
    assert OUTAGE_S < clock.now - 1000 < OUTAGE_S + 20


def test_a_server_that_was_never_there_is_not_waited_for(clock: Clock) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    client = Client("http://callboard.test", "k", transport=httpx.MockTransport(refuse))
    with client, pytest.raises(ApiUnreachable):
        client.wait("q.1")
    assert clock.now - 1000 < 6


@pytest.mark.parametrize(("when", "reads"), [("before", 0), ("meanwhile", 1)])
def test_a_job_that_is_not_there_ends_the_wait(server: Server, when: str, reads: int) -> None:
    server.streams = [Stream(event("state", "1-0"), b'event: removed\nid: end\ndata: {"id": "q.1", "state": null}\n\n')]

    def remove() -> None:
        server.answer = GONE if len(server.reads) > reads else None

    server.before_read = remove
    with pytest.raises(ApiError, match="There is no job"):
        server.wait()


def test_the_time_that_is_given_is_kept(server: Server, clock: Clock) -> None:
    with pytest.raises(WaitTimedOut, match="within 7 s"):
        server.wait(timeout_s=7)
    assert clock.now - 1000 == pytest.approx(7, abs=0.01)


def test_the_time_that_is_given_is_kept_on_a_stream_that_only_lives(server: Server, clock: Clock) -> None:
    timeouts: list[float] = []

    class Living(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield event("state", "1-0")
            while True:
                # A sign of life every 15 s; a read that would end later than its timeout ends there.
                if timeouts[-1] < 15:
                    clock.now += timeouts[-1]
                    raise httpx.ReadTimeout("silence")
                clock.now += 15
                yield b": heartbeat\n\n"

    def serve(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/progress"):
            timeouts.append(request.extensions["timeout"]["read"])
            return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Living())
        return httpx.Response(200, json=JOB)

    client = Client("http://callboard.test", "k", transport=httpx.MockTransport(serve))
    with client, pytest.raises(WaitTimedOut):
        client.wait("q.1", timeout_s=100)
    assert clock.now - 1000 == pytest.approx(100, abs=0.5)


def test_events_leaves_the_signs_of_life_out(server: Server) -> None:
    server.streams = [Stream(b": heartbeat\n\n", event("state", "1-0"), b": heartbeat\n\n", event("active", "2-0"))]
    with Client("http://callboard.test", "k", transport=httpx.MockTransport(server)) as client:
        seen = [(each.name, each.id) for each in client.events("q.1", last_event_id="0-1")]
    assert seen == [("state", "1-0"), ("active", "2-0")]
    assert server.last_event_ids == ["0-1"]
