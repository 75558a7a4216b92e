"""What the client does with answers that the real server gives only on a bad day."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.client import ApiError, ApiUnreachable, Client
from shared.errors import ValidationFailed
from tests.unit.cli.conftest import Clock

KEY = "cb_very-secret"
URL = "http://callboard.test:8000"

Handler = Callable[[httpx.Request], httpx.Response]


def make_client(handler: Handler, **options: Any) -> Client:
    return Client(URL, KEY, transport=httpx.MockTransport(handler), **options)


def problem(code: str, status: int, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    document = {"type": f"urn:callboard:problem:{code}", "title": code, "status": status, **fields}
    return httpx.Response(
        status, json=document, headers={"Content-Type": "application/problem+json", **(headers or {})}
    )


class Script:
    """Answers requests in order, and keeps them. An exception is raised, the last answer is repeated."""

    def __init__(self, *answers: httpx.Response | type[httpx.TransportError]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, type):
            raise answer("[Errno 111] Connection refused", request=request)
        return answer


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError, httpx.ReadTimeout])
def test_a_get_is_repeated_after_a_connection_error(clock: Clock, error: type[httpx.TransportError]) -> None:
    script = Script(error, error, httpx.Response(200, json={"queues": []}))
    assert make_client(script).queues() == []
    assert len(script.requests) == 3
    assert clock.pauses == sorted(clock.pauses)


def test_repeating_ends(clock: Clock) -> None:
    script = Script(httpx.ReadError)
    with pytest.raises(ApiUnreachable):
        make_client(script, retry_for_s=3).queues()
    assert 2 < len(script.requests) < 8
    assert sum(clock.pauses) < 3


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.submit("t.a", {}),
        lambda client: client.cancel("q.1"),
        lambda client: client.retry("q.1"),
        lambda client: client.promote("q.1"),
        lambda client: client.remove("q.1"),
        lambda client: client.pause("q"),
        lambda client: client.resume("q"),
    ],
)
@pytest.mark.parametrize("answer", [httpx.ReadError, httpx.ReadTimeout, 503, 429])
def test_what_may_have_had_an_effect_is_never_repeated(
    clock: Clock, call: Callable[[Client], object], answer: type[httpx.TransportError] | int
) -> None:
    script = Script(problem("x", answer, {"Retry-After": "1"}) if isinstance(answer, int) else answer)
    with pytest.raises((ApiError, ApiUnreachable)):
        call(make_client(script))
    assert len(script.requests) == 1
    assert clock.pauses == []


def test_a_submit_is_repeated_when_the_connection_was_refused(clock: Clock) -> None:
    script = Script(httpx.ConnectError, httpx.Response(202, json={"id": "q.1"}))
    assert make_client(script).submit("t.a", {"x": 1}, priority="high")["id"] == "q.1"
    assert script.requests[0].read() == script.requests[1].read() != b""


def test_a_busy_server_is_asked_again_when_it_says(clock: Clock) -> None:
    script = Script(problem("queue-unavailable", 503, {"Retry-After": "2"}), httpx.Response(200, json={"types": []}))
    assert make_client(script).types() == []
    assert clock.pauses == [2.0]


def test_a_server_that_is_busy_for_too_long_is_not_waited_for(clock: Clock) -> None:
    script = Script(problem("queue-unavailable", 503, {"Retry-After": "60"}, detail="Down."))
    with pytest.raises(ApiError) as caught:
        make_client(script).types()
    assert clock.pauses == []
    assert (caught.value.code, caught.value.status, caught.value.retry_after_s) == ("queue-unavailable", 503, 60.0)
    assert caught.value.retryable


def test_a_time_to_try_again_may_be_a_date(clock: Clock) -> None:
    headers = {"Date": "Sat, 31 Jan 2026 12:00:00 GMT", "Retry-After": "Sat, 31 Jan 2026 12:00:03 GMT"}
    script = Script(problem("x", 503, headers), httpx.Response(200, json={"types": []}))
    make_client(script).types()
    assert clock.pauses == [3.0]


def test_ready_asks_once(clock: Clock) -> None:
    assert make_client(Script(httpx.Response(200, json={}))).ready()
    for answer in (problem("queue-unavailable", 503), httpx.ConnectError):
        script = Script(answer)
        assert not make_client(script).ready()
        assert len(script.requests) == 1


def test_a_problem_keeps_all_that_it_says() -> None:
    errors = [{"field": "file_id", "message": "Field required"}]
    answer = problem("validation-failed", 422, {"X-Request-ID": "req_1"}, detail="Not valid.", errors=errors)
    with pytest.raises(ApiError) as caught:
        make_client(Script(answer)).submit("t.a", {})
    error = caught.value
    assert (error.code, error.status, error.detail) == ("validation-failed", 422, "Not valid.")
    assert (error.errors, error.request_id, error.retryable) == (errors, "req_1", False)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, html="<h1>Not here</h1>"),
        httpx.Response(404, json=["not", "a", "problem"]),
        httpx.Response(404, json={"type": 5}),
    ],
)
def test_a_refusal_by_something_else_names_the_address(answer: httpx.Response) -> None:
    with pytest.raises(ApiError, match=r"404 Not Found.*http://callboard\.test:8000") as caught:
        make_client(Script(answer)).job("q.1")
    assert caught.value.code == "http-404"


def test_an_answer_that_is_no_json_is_no_answer_of_callboard() -> None:
    with pytest.raises(ApiError, match="not JSON"):
        make_client(Script(httpx.Response(200, html="<h1>Welcome</h1>"))).job("q.1")


def test_a_redirect_is_not_followed_with_the_key() -> None:
    script = Script(httpx.Response(302, headers={"Location": "http://elsewhere.test/"}))
    with pytest.raises(ApiError, match="302 Found"):
        make_client(script).job("q.1")
    assert [request.url.host for request in script.requests] == ["callboard.test"]


def test_the_key_is_sent_and_shown_nowhere(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    script = Script(httpx.ConnectError)
    client = make_client(script)
    with pytest.raises(ApiUnreachable) as caught:
        client.job("q.1")
    assert script.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    assert "callboard.test:8000" in str(caught.value)
    shown = [repr(client), repr(vars(client)), str(caught.value), repr(caught.value.extra), caplog.text]
    cause: BaseException | None = caught.value
    while cause is not None:
        shown += [str(cause), repr(cause)]
        cause = cause.__cause__ or cause.__context__
    assert not [text for text in shown if KEY in text]


@pytest.mark.parametrize("key", ["two words", "line\nend", "ключ", "tab\t"])
def test_a_key_that_cannot_be_one_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        Client(URL, key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("url", ["", "foo", "ftp://host", "http://", "http://[::1", "localhost:8000", "http://h:x"])
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(ValidationFailed, match="no address"):
        Client(url, KEY)


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValidationFailed) as caught:
        Client("http://me:hunter2@host", KEY)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("job_id", ["", ".", "..", "  ", ". ."])
def test_what_cannot_be_an_id_is_not_asked_for(job_id: str) -> None:
    script = Script(httpx.Response(200, json={}))
    with pytest.raises(ValidationFailed, match="no job id"):
        make_client(script).job(job_id)
    assert script.requests == []


def test_an_id_stays_one_part_of_the_address() -> None:
    script = Script(problem("job-not-found", 404))
    with pytest.raises(ApiError):
        make_client(script).job("../queues?x=1#y")
    assert script.requests[0].url.raw_path == b"/api/v1/jobs/..%2Fqueues%3Fx%3D1%23y"


def test_pages_are_read_one_after_the_other() -> None:
    pages = [
        {"jobs": [{"id": "q.1"}, {"id": "q.2"}], "next_cursor": "c1"},
        {"jobs": [], "next_cursor": "c2"},
        {"jobs": [{"id": "q.3"}], "next_cursor": None},
    ]
    script = Script(*(httpx.Response(200, json=page) for page in pages))
    assert [job["id"] for job in make_client(script).jobs(queue="q", state="failed")] == ["q.1", "q.2", "q.3"]
    assert [request.url.params.get("cursor") for request in script.requests] == [None, "c1", "c2"]
    assert {request.url.params["state"] for request in script.requests} == {"failed"}


# -- files --


def test_an_upload_goes_out_in_chunks(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "a b.csv").write_bytes(content)
    seen: list[tuple[int, int | None]] = []
    script = Script(httpx.Response(201, json={"id": "file_1"}))
    make_client(script).upload(tmp_path / "a b.csv", on_progress=lambda sent, total: seen.append((sent, total)))
    request = script.requests[0]
    assert request.url.params["name"] == "a b.csv"
    assert request.headers["Content-Length"] == str(len(content))
    assert "Transfer-Encoding" not in request.headers
    assert request.read() == content
    assert seen[-1] == (len(content), len(content))
    assert max(b[0] - a[0] for a, b in itertools.pairwise(seen)) <= 256 * 1024


def test_an_upload_whose_name_is_no_text_is_sent_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / b"caf\xe9.csv".decode("utf-8", "surrogateescape")
    path.write_bytes(b"x")
    script = Script(httpx.Response(201, json={"id": "file_1"}))
    make_client(script).upload(path)
    assert script.requests[0].url.params["name"] == "caf?.csv"


def test_an_empty_file_is_sent(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    script = Script(httpx.Response(201, json={"id": "file_1"}))
    make_client(script).upload(tmp_path / "empty.csv")
    assert script.requests[0].headers["Content-Length"] == "0"


def test_a_file_that_shrinks_meanwhile_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"x" * 600_000)
    with pytest.raises(OSError, match="became shorter"):
        make_client(Script(httpx.Response(201, json={}))).upload(path, on_progress=lambda *_: path.write_bytes(b""))


def test_a_file_that_grows_meanwhile_is_sent_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"x" * 10)

    def grow(*_: object) -> None:
        with path.open("ab") as file:
            file.write(b"y")

    script = Script(httpx.Response(201, json={"id": "file_1"}))
    make_client(script).upload(path, on_progress=grow)
    assert script.requests[0].read() == b"x" * 10


def test_an_upload_that_is_hung_up_on_tells_the_reason_if_it_can_be_had(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x")
    script = Script(httpx.WriteError, problem("not-authenticated", 401))
    with pytest.raises(ApiError) as caught:
        make_client(script).upload(tmp_path / "a.csv")
    assert caught.value.status == 401
    fine = Script(httpx.WriteError, httpx.Response(200, json={"queues": []}))
    with pytest.raises(ApiUnreachable):
        make_client(fine).upload(tmp_path / "a.csv")


class _Cut(httpx.SyncByteStream):
    def __iter__(self):
        yield b"half"
        raise httpx.ReadError("reset")


def test_a_download_that_breaks_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("old")
    client = make_client(Script(httpx.Response(200, stream=_Cut())))
    with pytest.raises(ApiUnreachable):
        client.download("file_1", tmp_path / "r.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"]
    assert (tmp_path / "r.csv").read_text() == "old"


def test_a_download_replaces_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("old")
    client = make_client(Script(httpx.Response(200, content=b"new")))
    assert client.download("file_1", tmp_path / "r.csv") == tmp_path / "r.csv"
    assert (tmp_path / "r.csv").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"]
