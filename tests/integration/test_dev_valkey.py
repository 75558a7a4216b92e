"""The queue server that `make run` brings along."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from shared.config import Settings
from tests.servers import valkey_binary

ROOT = Path(__file__).resolve().parents[2]


def start(data_dir: Path, **environ: str) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REDIS_")}
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.dev.valkey"],
        cwd=ROOT,
        env={**inherited, "CALLBOARD_DATA_DIR": str(data_dir), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def stop(process: subprocess.Popen[str]) -> str:
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    return output


def wait_until_ready(process: subprocess.Popen[str], settings: Settings) -> None:
    deadline = time.monotonic() + 30
    with redis.Redis.from_url(settings.redis_url) as client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    pytest.fail(f"{text!r} never came: {seen}")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "a folder"


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, redis_url_override=None, redis_host=None)


@pytest.fixture
def server(data_dir: Path, settings: Settings) -> Iterator[subprocess.Popen[str]]:
    valkey_binary()  # skips, or fails in CI, where there is none
    process = start(data_dir)
    wait_until_ready(process, settings)
    yield process
    if process.poll() is None:
        stop(process)


@pytest.mark.needs_server
def test_data_survives_a_stop(server: subprocess.Popen[str], data_dir: Path, settings: Settings) -> None:
    with redis.Redis.from_url(settings.redis_url) as client:
        client.set("kept", "yes")
    stop(server)
    again = start(data_dir)
    wait_until_ready(again, settings)
    with redis.Redis.from_url(settings.redis_url, decode_responses=True) as client:
        assert client.get("kept") == "yes"
    stop(again)


@pytest.mark.needs_server
def test_server_is_durable_and_private(server: subprocess.Popen[str], settings: Settings) -> None:
    with redis.Redis.from_url(settings.redis_url, decode_responses=True) as client:
        config = {**client.config_get("append*"), **client.config_get("maxmemory-policy"), **client.config_get("port")}
    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "everysec"
    assert config["maxmemory-policy"] == "noeviction"
    assert config["port"] == "0"
    assert stat.S_IMODE(settings.embedded_socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(settings.embedded_socket.parent.stat().st_mode) == 0o700


@pytest.mark.needs_server
def test_second_server_on_the_same_folder_is_refused(server: subprocess.Popen[str], data_dir: Path) -> None:
    assert server.poll() is None
    second = start(data_dir)
    output, _ = second.communicate(timeout=30)
    assert second.returncode == 1
    assert "already runs" in output


@pytest.mark.parametrize("variable", ["REDIS_URL", "REDIS_HOST"])
def test_configured_server_is_used_and_its_password_not_printed(variable: str, data_dir: Path) -> None:
    value = "redis://:hunter2@127.0.0.1:1/0" if variable == "REDIS_URL" else "127.0.0.1"
    process = start(data_dir, **{variable: value})
    wait_for(process, f"{variable} is set")
    assert "hunter2" not in stop(process)
    assert not (data_dir / "valkey").exists()
