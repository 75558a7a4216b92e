"""Files in and out, as far as it takes no real connection; test_deployed has the rest."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.storage import LocalStorage, LocalWriter

LIMIT = 1_000_000


@pytest.fixture
def left(tmp_path: Path) -> Callable[[], list[str]]:
    """List what is in the storage, half-written files included."""
    folder = tmp_path / "data" / "files"
    return lambda: [path.name for path in folder.iterdir()] if folder.exists() else []


def form(content: bytes, name: str = "terms.xlsx") -> dict[str, Any]:
    """Make the arguments of a call that sends a file in a form."""
    # Not the test client's own forms: those over 500 kB it leaves in a file that nobody closes.
    head = f'name="file"; filename="{name}"'.encode()
    return {"data": raw_form(part(head, content)), "content_type": "multipart/form-data; boundary=B"}


def raw_form(*parts: bytes, end: bytes = b"--B--\r\n") -> bytes:
    return b"".join(b"--B\r\n" + part for part in parts) + end


def part(head: bytes, body: bytes = b"x") -> bytes:
    return b"Content-Disposition: form-data; " + head + b"\r\n\r\n" + body + b"\r\n"


def test_a_body_is_stored_and_comes_back(client: FlaskClient) -> None:
    content = bytes(range(256)) * 1000
    answer = client.post("/api/v1/files?name=rows.csv", data=content, content_type="text/csv")
    assert answer.status_code == 201
    file = answer.get_json()
    assert answer.headers["Location"] == f"/api/v1/files/{file['id']}" == file["links"]["self"]
    assert (file["name"], file["size_bytes"], file["content_type"]) == ("rows.csv", 256_000, "text/csv")
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert client.get(file["links"]["self"]).get_json() == file
    back = client.get(file["links"]["content"])
    assert back.data == content
    assert back.headers["Content-Disposition"] == "attachment; filename=rows.csv"
    assert back.headers["X-Content-Type-Options"] == "nosniff"


def test_a_form_is_stored_the_same(client: FlaskClient) -> None:
    content = b"\r\n--x\r\n--" * 10_000
    file = client.post("/api/v1/files", **form(content, "Gl\u00f6ssary \U0001f600.xlsx")).get_json()
    assert file["name"] == "Gl\u00f6ssary \U0001f600.xlsx"
    assert file["size_bytes"] == len(content)
    back = client.get(file["links"]["content"])
    assert back.data == content
    assert "filename*=UTF-8''Gl%C3%B6ssary%20%F0%9F%98%80.xlsx" in back.headers["Content-Disposition"]


def test_the_name_comes_from_the_query_or_headers(client: FlaskClient) -> None:
    def name(headers: dict[str, str], query: str = "") -> str:
        return str(client.post(f"/api/v1/files{query}", data=b"x", headers=headers).get_json()["name"])

    assert name({}) == "unnamed"
    assert name({"X-Filename": "gl%C3%B6ssary.csv"}) == "gl\u00f6ssary.csv"
    assert name({"Content-Disposition": 'attachment; filename="a b.csv"'}) == "a b.csv"
    assert name({"X-Filename": "a.csv", "Content-Disposition": "attachment; filename=b.csv"}, "?name=c.csv") == "c.csv"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ann\\terms.xlsx", "terms.xlsx"),
        ("/", "unnamed"),
        ("a\r\nSet-Cookie: x=1", "aSet-Cookie: x=1"),
        ("report\u202excod.exe", "reportxcod.exe"),
        ("x" * 300, "x" * 255),
        ("", "unnamed"),
    ],
)
def test_names_can_do_no_harm(client: FlaskClient, name: str, kept: str) -> None:
    file = client.post("/api/v1/files", data=b"x", query_string={"name": name}).get_json()
    assert file["name"] == kept
    back = client.get(file["links"]["content"])
    assert back.status_code == 200
    assert back.headers["Content-Disposition"].startswith("attachment;")


def test_an_uploaded_page_never_runs_as_ours(client: FlaskClient) -> None:
    file = client.post("/api/v1/files", data=b"<script>1</script>", content_type="text/html").get_json()
    headers = client.get(file["links"]["content"]).headers
    assert headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_parts_of_a_file_can_be_asked_for(client: FlaskClient) -> None:
    file = client.post("/api/v1/files", data=b"0123456789").get_json()
    part = client.get(file["links"]["content"], headers={"Range": "bytes=2-4"})
    assert part.status_code == 206
    assert part.data == b"234"
    assert part.headers["Content-Range"] == "bytes 2-4/10"
    outside = client.get(file["links"]["content"], headers={"Range": "bytes=20-30"})
    assert outside.status_code == 416
    assert outside.content_type == "application/problem+json"
    same = client.get(file["links"]["content"], headers={"If-None-Match": f'"{file["sha256"]}"'})
    assert same.status_code == 304
    assert same.data == b""
    head = client.head(file["links"]["content"])
    assert head.status_code == 200
    assert head.headers["Content-Length"] == "10"
    assert head.data == b""


@pytest.mark.parametrize("file_id", ["file_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense", "..", "%2e%2e", "file_%00", "%5c"])
def test_a_file_that_is_not_there_is_404(client: FlaskClient, file_id: str) -> None:
    for suffix in ("", "/content"):
        assert client.get(f"/api/v1/files/{file_id}{suffix}").status_code == 404


def test_an_empty_file_is_a_file_but_no_body_is_none(client: FlaskClient, left: Callable[[], list[str]]) -> None:
    missing = client.post("/api/v1/files")
    assert missing.status_code == 400
    assert "no body" in missing.get_json()["detail"]
    assert left() == []
    assert client.post("/api/v1/files", **form(b"")).get_json()["size_bytes"] == 0
    assert client.post("/api/v1/files", environ_overrides={"CONTENT_LENGTH": "0"}).get_json()["size_bytes"] == 0


@pytest.mark.parametrize("over", [1, LIMIT])
def test_too_large_is_refused_and_nothing_kept(client: FlaskClient, left: Callable[[], list[str]], over: int) -> None:
    content = b"x" * (LIMIT + over)
    for answer in (
        client.post("/api/v1/files", data=content),
        client.post("/api/v1/files", **form(content)),
        # no length given: counted as it comes
        client.post(
            "/api/v1/files",
            input_stream=io.BytesIO(content),
            headers={"Transfer-Encoding": "chunked"},
            environ_overrides={"wsgi.input_terminated": True},
        ),
    ):
        assert answer.status_code == 413
        assert answer.get_json()["type"] == "urn:callboard:problem:file-too-large"
        assert answer.get_json()["limit_bytes"] == LIMIT
    assert left() == []


def test_the_limit_itself_is_allowed(client: FlaskClient) -> None:
    content = b"x" * LIMIT
    assert client.post("/api/v1/files", data=content).status_code == 201
    assert client.post("/api/v1/files", **form(content)).status_code == 201


FILE = part(b'name="file"; filename="a.csv"')


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"\r\n", 400),
        (b"nonsense", 400),
        (raw_form(FILE, end=b""), 400),
        (raw_form(FILE, end=b"--B"), 400),
        (raw_form(b"no header\r\n\r\nx\r\n"), 400),
        (raw_form(part(b'name="file"; filename="a"', b"x") + b"--B\r\nX: " + b"y" * 10_000), 400),
        (raw_form(part(b'name="note"')), 422),
        (raw_form(part(b'name="file"')), 422),
        (raw_form(FILE, FILE), 422),
        (raw_form(part(b'name="other"; filename="a"')), 422),
        (raw_form(*[part(b'name="f%d"' % i) for i in range(21)], FILE), 400),
        (raw_form(part(b'name="note"', b"x" * 70_000), FILE), 400),
        (raw_form(FILE, part(b'name="note"', b"\xff")), 400),
        (raw_form(FILE, part(b"nonsense"), b"Content-Type: text/plain\r\n\r\nx\r\n"), 201),
    ],
)
def test_broken_forms(client: FlaskClient, left: Callable[[], list[str]], body: bytes, status: int) -> None:
    answer = client.post("/api/v1/files", data=body, content_type="multipart/form-data; boundary=B")
    assert answer.status_code == status, answer.get_json()
    assert len(left()) == (1 if status == 201 else 0)


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=" + "b" * 300])
def test_forms_without_a_good_boundary(client: FlaskClient, content_type: str) -> None:
    assert client.post("/api/v1/files", data=raw_form(FILE), content_type=content_type).status_code == 400


def arriving(body: Pieces, length: int, content_type: str) -> dict[str, Any]:
    """Make the environment of a request whose body comes from a connection."""
    # Not through the test client's arguments, which make a body of their own for a form.
    return {"wsgi.input": body, "CONTENT_LENGTH": str(length), "CONTENT_TYPE": content_type}


class Pieces:
    """A connection over which a body comes in pieces of one size."""

    def __init__(self, body: bytes, size: int) -> None:
        self._body = io.BytesIO(body)
        self._size = size

    def read(self, size: int = -1) -> bytes:
        return self._body.read(self._size if size < 0 else min(size, self._size))


@pytest.mark.parametrize("size", [1, 7, 64, 65_536])
def test_a_form_may_arrive_in_any_pieces(client: FlaskClient, size: int) -> None:
    content = b"\r\n--A" * 100 + b"\r\n-" * 50 + b"\r"
    body = raw_form(part(b'name="file"; filename="a.csv"', content), part(b'name="note"'))
    answer = client.post(
        "/api/v1/files",
        environ_overrides=arriving(Pieces(body, size), len(body), "multipart/form-data; boundary=B"),
    )
    assert answer.status_code == 201, answer.get_json()
    assert answer.get_json()["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content_type", ["text/csv", "multipart/form-data; boundary=B"])
def test_a_connection_that_breaks_leaves_nothing(
    client: FlaskClient, left: Callable[[], list[str]], content_type: str
) -> None:
    body = raw_form(part(b'name="file"; filename="a.csv"', b"x" * 1000))
    answer = client.post(
        "/api/v1/files",
        environ_overrides=arriving(Pieces(body[:500], 100), len(body), content_type),
    )
    assert answer.status_code == 400
    assert left() == []


@pytest.mark.parametrize("method", ["write", "commit"])
def test_a_full_disk_is_told_as_such(
    client: FlaskClient, left: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "/secret/path")

    monkeypatch.setattr(LocalWriter, method, fail)
    for call in ({"data": b"x" * 10}, form(b"x" * 10)):
        answer = client.post("/api/v1/files", **call)
        assert answer.status_code == 507
        assert answer.get_json()["type"] == "urn:callboard:problem:storage-unavailable"
        assert int(answer.headers["Retry-After"]) > 0
        assert "/secret/path" not in answer.get_data(as_text=True)
    assert left() == []


def test_what_jobs_stored_can_be_fetched(client: FlaskClient, storage: LocalStorage) -> None:
    report = storage.save(io.BytesIO(b"row,column,reason\n"), name="rejects.csv", content_type="text/csv")
    answer = client.get(f"/api/v1/files/{report.id}/content")
    assert answer.data == b"row,column,reason\n"
    assert answer.mimetype == "text/csv"
