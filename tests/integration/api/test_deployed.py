"""What only shows under gunicorn: large uploads, memory, connections, keys over several processes, the log."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from shared.config import Settings
from tests.integration.api.conftest import KEY
from tests.integration.api.server import ROOT, ApiServer

MIB = 1024 * 1024
LIMIT = 200 * MIB


def chunks(size: int) -> Iterator[bytes]:
    piece = bytes(MIB)
    for _ in range(size // MIB):
        yield piece


def form_chunks(size: int) -> Iterator[bytes]:
    yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
    yield from chunks(size)
    yield b"\r\n--B--\r\n"


def peak_mib(server: ApiServer) -> float:
    """Give the most memory that any process of the server ever had."""
    peaks = []
    for worker in server.workers():
        status = Path(f"/proc/{worker.pid}/status").read_text()
        peaks.append(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024)
    return max(peaks)


@pytest.fixture
def server(make_server: Callable[..., ApiServer]) -> ApiServer:
    return make_server(max_upload_bytes=LIMIT)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel keeps no peak of memory to read")
def test_uploads_pass_through_without_being_held(server: ApiServer, tmp_path: Path) -> None:
    with server.client(60) as client:
        client.post("/api/v1/files", content=b"warm").raise_for_status()
        before = peak_mib(server)
        for body, content_type in (
            (chunks(150 * MIB), "application/octet-stream"),
            (form_chunks(150 * MIB), "multipart/form-data; boundary=B"),
        ):
            answer = client.post("/api/v1/files", content=body, headers={"Content-Type": content_type})
            assert answer.status_code == 201
            assert answer.json()["size_bytes"] == 150 * MIB
            with client.stream("GET", answer.json()["links"]["content"]) as download:
                assert sum(map(len, download.iter_raw())) == 150 * MIB
        assert peak_mib(server) - before < 24
    # Not spooled elsewhere on the way either: the two files and the first one are all that was written.
    stored = sum(path.stat().st_size for path in (tmp_path / "data").rglob("content"))
    assert stored == 300 * MIB + 4


@pytest.mark.slow
@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("as_form", [True, False])
def test_300_mb_over_the_limit_are_refused_and_leave_nothing(
    server: ApiServer, tmp_path: Path, announced: bool, as_form: bool
) -> None:
    size = 300 * MIB
    headers = {"Content-Type": "multipart/form-data; boundary=B" if as_form else "application/octet-stream"}
    body = form_chunks if as_form else chunks
    if announced:
        headers["Content-Length"] = str(sum(map(len, form_chunks(0))) + size if as_form else size)
    # This client sends all before it reads: it only sees the answer because the server hears it out.
    with server.client(60) as client:
        answer = client.post("/api/v1/files", content=body(size), headers=headers)
        assert answer.status_code == 413
        assert answer.json()["type"] == "urn:callboard:problem:file-too-large"
        assert answer.json()["limit_bytes"] == LIMIT
        assert client.get("/api/v1/queues").status_code == 200
    files = tmp_path / "data" / "files"
    assert not files.exists() or list(files.iterdir()) == []


def test_strangers_are_refused_before_their_upload(server: ApiServer, tmp_path: Path) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as stranger:
        answer = stranger.post("/api/v1/files", content=b"x" * 1000)
    assert answer.status_code == 401
    assert not (tmp_path / "data" / "files").exists()


def test_an_upload_that_breaks_off_leaves_nothing(server: ApiServer, tmp_path: Path) -> None:
    def breaking() -> Iterator[bytes]:
        yield bytes(MIB)
        raise ConnectionAbortedError

    with server.client() as client:
        for headers in ({}, {"Content-Length": str(5 * MIB)}):
            with pytest.raises(ConnectionAbortedError):
                client.post("/api/v1/files", content=breaking(), headers=headers)
        files = tmp_path / "data" / "files"
        # The server notices when it reads on; a request of ours is answered meanwhile.
        while files.exists() and list(files.iterdir()):
            client.get("/healthz").raise_for_status()


def test_the_log_holds_requests_and_no_secret(make_server: Callable[..., ApiServer]) -> None:
    server = make_server()
    with server.client() as client:
        client.get("/api/v1/queues", params={"token": "in-the-address"})
        client.get("/api/v1/queues", headers={"Authorization": "Bearer not-the-key"})
        request_id = client.post("/api/v1/jobs", json={"type": "no", "payload": {"x": "in-the-payload"}}).headers[
            "X-Request-ID"
        ]
    server.terminate()
    log = server.log()
    assert request_id in log
    assert "/api/v1/queues" in log
    for secret in (KEY, "not-the-key", "in-the-address", "in-the-payload"):
        assert secret not in log


# -- the admin key that is made on the first start --

START = "from services.api.app import create_app; create_app()"


def start_many(settings: Settings, number: int) -> list[str]:
    """Make applications in processes of their own at the same time; gives what each printed."""
    environ = {"PATH": os.environ["PATH"], "CALLBOARD_DATA_DIR": str(settings.data_dir), "REDIS_URL": "unix:///none"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", START], cwd=ROOT, env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(number)
    ]
    printed = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        printed.append((out + err).decode())
    return printed


def test_processes_that_start_together_agree_on_one_key(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    printed = start_many(settings, 3)
    key = settings.admin_key_path.read_text().strip()
    assert re.fullmatch(r"cb_[\w-]{43}", key)
    assert stat.S_IMODE(settings.admin_key_path.stat().st_mode) == 0o600
    assert sorted(key in text for text in printed) == [False, False, True], "printed once, by the one who made it"
    assert [path.name for path in settings.data_dir.iterdir()] == ["admin.key"], "no half-written key is left"
    assert key not in "".join(start_many(settings, 1)), "and never again"
    assert settings.admin_key_path.read_text().strip() == key
