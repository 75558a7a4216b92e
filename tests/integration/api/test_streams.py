"""Event streams over real connections, under gunicorn."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from shared.config import Settings
from shared.engine.engine import NewJob, Outcome
from shared.engine.keys import new_job_id
from shared.engine.record import encode_payload
from shared.engine.redis import RedisEngine
from tests.integration.api.conftest import KEY
from tests.integration.api.playing import Hand
from tests.integration.api.server import ApiServer
from tests.servers import ValkeyServer

Frame = tuple[str, str | None, Any]


def add(engine: RedisEngine, queue: str = "excel-import", kind: str = "imports.excel") -> str:
    job_id = new_job_id(queue)
    engine.add(queue, [NewJob(id=job_id, name=kind, body=encode_payload({"file_id": "f"}))])
    return job_id


class Stream:
    """A stream being read; every wait is bounded by the client's timeout."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()
        self.heartbeats = 0

    def __iter__(self) -> Iterator[Frame]:
        name, event_id, data = "", None, ""
        for line in self._lines:
            field, _, value = line.partition(": ")
            if line == ": heartbeat":
                self.heartbeats += 1
            elif field == "event":
                name = value
            elif field == "id":
                event_id = value
            elif field == "data":
                data = value
            elif not line and data:
                yield name, event_id, json.loads(data)
                name, event_id, data = "", None, ""

    def next(self) -> Frame:
        return next(iter(self))

    def until(self, name: str, job_id: str | None = None) -> list[Frame]:
        found = []
        for frame in self:
            found.append(frame)
            if frame[0] == name and (job_id is None or frame[2].get("job_id") == job_id):
                return found
        raise AssertionError(f"the stream ended without {name}: {found}")


@contextmanager
def follow(client: httpx.Client, path: str, last: str | None = None) -> Iterator[Stream]:
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
    with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Cache-Control"] == "no-store"
        yield Stream(response)


@pytest.fixture(scope="module")
def shared_namespace() -> str:
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
def namespace(shared_namespace: str) -> str:
    """One namespace for the tests here, so that one server can serve them all: starting one takes seconds."""
    return shared_namespace


@pytest.fixture(scope="module")
def server(
    valkey: ValkeyServer, shared_namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("api")
    settings = Settings(data_dir=folder / "data", redis_url_override=valkey.url, namespace=shared_namespace)
    server = ApiServer(settings, KEY, folder / "log")
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _empty(valkey: ValkeyServer, shared_namespace: str) -> Iterator[None]:
    """Leave nothing to the next test."""
    yield
    with valkey.client() as admin:
        for key in admin.scan_iter(match=f"{{{shared_namespace}:*", count=1000):
            admin.unlink(key)


@pytest.fixture
def client(server: ApiServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def test_a_job_is_followed_to_its_end(client: httpx.Client, engine: RedisEngine, hand: Hand) -> None:
    job_id = add(engine)
    other = add(engine)
    with follow(client, f"/api/v1/jobs/{job_id}/progress") as stream:
        name, _, data = stream.next()
        assert (name, data["state"], data["id"]) == ("state", "waiting", job_id)
        job = hand.take()
        assert stream.next()[2]["state"] == "active"
        hand.progress(hand.take(), 99)  # the other job's
        hand.progress(job, 25, "reading", rows=250)
        name, position, data = stream.next()
        assert name == "progress"
        assert data["progress"]["percent"] == 25
        assert data["progress"]["data"] == {"rows": 250}
        assert position
        hand.finish(job, Outcome.RETRY, {"type": "RetryableError", "message": "busy", "retryable": True})
        name, _, data = stream.next()
        assert (name, data["state"]) == ("waiting", "waiting")
        assert data["error"]["message"] == "busy"
        hand.complete(hand.take(), {"inserted": 9})
        *_, (name, position, data) = list(stream)
        assert (name, position, data["state"], data["result"]) == ("completed", "end", "completed", {"inserted": 9})
        assert data["id"] != other


def test_a_finished_job_is_one_message_and_none_for_who_saw_it(
    client: httpx.Client, engine: RedisEngine, hand: Hand
) -> None:
    job_id = add(engine)
    hand.fail(hand.take(), "not a workbook")
    path = f"/api/v1/jobs/{job_id}/progress"
    with follow(client, path) as stream:
        ((name, position, data),) = list(stream)
        assert (name, data["state"], data["error"]["message"]) == ("state", "failed", "not a workbook")
    again = client.get(path, headers={"Accept": "text/event-stream", "Last-Event-ID": position or ""})
    assert again.status_code == 204
    engine.retry(job_id)
    with follow(client, path, last=position) as stream:
        assert stream.next()[2]["state"] == "waiting"


def test_who_comes_again_gets_the_present_state_first(client: httpx.Client, engine: RedisEngine, hand: Hand) -> None:
    job_id = add(engine)
    job = hand.take()
    path = f"/api/v1/jobs/{job_id}/progress"
    with follow(client, path) as stream:
        position = stream.next()[1]
    hand.progress(job, 60)
    with follow(client, path, last=position) as stream:
        name, _, data = stream.next()
        assert (name, data["progress"]["percent"]) == ("state", 60)
        hand.progress(job, 70)
        assert stream.next()[2]["progress"]["percent"] == 70


def test_a_job_that_is_deleted_ends_its_stream(client: httpx.Client, engine: RedisEngine) -> None:
    job_id = add(engine)
    with follow(client, f"/api/v1/jobs/{job_id}/progress") as stream:
        stream.next()
        engine.remove(job_id)
        assert list(stream) == [("removed", "end", {"id": job_id, "state": None})]


def test_json_is_the_answer_unless_a_stream_is_asked_for(client: httpx.Client, engine: RedisEngine) -> None:
    path = f"/api/v1/jobs/{add(engine)}/progress"
    for accept in ("*/*", "application/json", "application/json, text/event-stream", "text/html"):
        assert client.get(path, headers={"Accept": accept}).headers["Content-Type"] == "application/json"
    for query in ("?stream", "?stream=true"):
        with client.stream("GET", path + query, headers={"Accept": "*/*"}) as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")


def test_all_queues_are_followed(client: httpx.Client, engine: RedisEngine, hand: Hand) -> None:
    with follow(client, "/api/v1/events") as stream, follow(client, "/api/v1/events?queue=db-batch") as narrow:
        name, _, data = stream.next()
        assert (name, data["queues"], data["resumed"]) == ("ready", ["db-batch", "excel-import"], False)
        assert narrow.next()[2]["queues"] == ["db-batch"]
        first = add(engine)
        batch = add(engine, "db-batch", "imports.batch_insert")
        hand.progress(hand.take(), 10)
        expected = {("added", first), ("added", batch), ("active", first), ("progress", first)}
        # Between queues there is no order, so the last of them may be any.
        seen = [stream.next() for _ in expected]
        assert {(frame[0], frame[2]["job_id"]) for frame in seen} == expected
        _, _, event = seen[-1]
        assert event["queue"] == "excel-import"
        assert event["type"] == "imports.excel"
        assert event["progress"]["percent"] == 10
        assert event["at"].endswith("Z")
        engine.pause("db-batch")
        assert [frame[0] for frame in narrow.until("paused")] == ["added", "paused"]


def test_a_stream_goes_on_where_it_broke_off(client: httpx.Client, engine: RedisEngine) -> None:
    with follow(client, "/api/v1/events") as stream:
        stream.next()
        first = add(engine)
        position = stream.until("added", first)[-1][1]
    # More than one read's worth, over two queues, while nobody listens.
    missed = [add(engine) for _ in range(700)]
    missed += [add(engine, "db-batch", "imports.batch_insert") for _ in range(20)]
    with follow(client, "/api/v1/events", last=position) as stream:
        assert stream.next()[2]["resumed"] is True
        seen = [stream.next() for _ in range(len(missed) // 2)]
        position = seen[-1][1]
    with follow(client, "/api/v1/events", last=position) as stream:
        stream.next()
        last = add(engine)
        seen += stream.until("added", last)
    told = [frame[2]["job_id"] for frame in seen]
    assert sorted(told) == sorted([*missed, last]), "each once"


@pytest.mark.parametrize(
    "last", ["garbage", "0", "00000000.1-1", "\u0661", "x" * 2000, "deadbeef.99999999999999999999"]
)
def test_an_id_that_means_nothing_starts_from_now(client: httpx.Client, engine: RedisEngine, last: str) -> None:
    headers = [(b"Accept", b"text/event-stream"), (b"Last-Event-ID", last.encode())]
    with client.stream("GET", "/api/v1/events", headers=headers) as response:
        stream = Stream(response)
        assert stream.next()[2]["resumed"] is False
        now = add(engine)
        # What was added just before may still be on its way to the reader that all streams share.
        stream.until("added", now)


def test_a_quiet_stream_gives_signs_of_life(make_server: Callable[..., ApiServer], engine: RedisEngine) -> None:
    with make_server(heartbeat_s=0.1).client() as client:
        job_id = add(engine)
        for path in (f"/api/v1/jobs/{job_id}/progress", "/api/v1/events"):
            with follow(client, path) as stream:
                stream.next()
                for line in stream._lines:
                    if line == ": heartbeat":
                        break
                else:
                    pytest.fail("the stream ended")


def test_a_stream_survives_an_outage_of_the_queue_server(
    make_server: Callable[..., ApiServer], make_valkey: Callable[..., ValkeyServer], namespace: str
) -> None:
    valkey = make_valkey(appendonly=True)
    engine = RedisEngine.from_url(valkey.url, namespace)
    server = make_server(redis_url_override=valkey.url)
    with server.client() as client, follow(client, "/api/v1/events") as stream:
        stream.next()
        before = add(engine)
        stream.until("added", before)
        valkey.kill()
        assert client.get("/api/v1/queues").status_code == 503
        valkey.start()
        engine.close()  # its connections are of the server that died
        after = add(engine)
        assert [frame[2]["job_id"] for frame in stream.until("added", after)] == [after]
    engine.close()


def test_one_reader_serves_all_who_watch(
    make_server: Callable[..., ApiServer], make_valkey: Callable[..., ValkeyServer], namespace: str
) -> None:
    valkey = make_valkey()
    engine = RedisEngine.from_url(valkey.url, namespace)
    client = make_server(redis_url_override=valkey.url).client()
    hand = Hand(engine)
    job_id = add(engine)
    streams = [follow(client, "/api/v1/events") for _ in range(8)]
    streams += [follow(client, f"/api/v1/jobs/{job_id}/progress") for _ in range(8)]
    opened = [stream.__enter__() for stream in streams]
    for stream in opened:
        stream.next()
    with valkey.client() as admin:
        readers = {each["id"] for each in admin.client_list() if each["cmd"] == "xread"}
        assert len(readers) == 1
    hand.complete(hand.take())
    for stream in opened:
        stream.until("completed")
    for each in streams:
        each.__exit__(None, None, None)
    client.close()
    engine.close()


def test_streams_leave_room_for_requests(make_server: Callable[..., ApiServer]) -> None:
    with make_server(api_threads=4).client() as client:
        streams = [follow(client, "/api/v1/events") for _ in range(3)]
        for each in streams:
            each.__enter__().next()
        refused = client.get("/api/v1/events")
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:callboard:problem:too-many-streams"
        assert int(refused.headers["Retry-After"]) >= 1
        assert client.get("/api/v1/queues").status_code == 200
        for each in streams:
            each.__exit__(None, None, None)


def test_head_takes_no_place(make_server: Callable[..., ApiServer]) -> None:
    with make_server(api_threads=4).client() as client:
        for _ in range(5):
            answer = client.head("/api/v1/events")
            assert answer.status_code == 200
            assert answer.headers["Content-Type"].startswith("text/event-stream")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_stopping_ends_streams_at_once(make_server: Callable[..., ApiServer], how: signal.Signals) -> None:
    server = make_server()
    with server.client() as client, follow(client, "/api/v1/events") as stream:
        stream.next()
        assert server.terminate(how) < 10, "gunicorn waits 20 s for requests that do not end"
        assert [(frame[0], frame[2]) for frame in stream] == [("dropped", {"reason": "stopping"})]
