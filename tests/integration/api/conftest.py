"""An application on a real queue server, called without HTTP; and a hand that plays the worker."""

from __future__ import annotations

import io
import logging
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from services.api.app import create_app
from services.api.backend import EXTENSION
from shared.config import Settings
from shared.engine.redis import RedisEngine
from shared.log import configure_logging
from shared.storage import LocalStorage
from tests.integration.api.playing import Hand
from tests.integration.api.server import ApiServer
from tests.servers import ValkeyServer


class BufferingClient(FlaskClient):
    def open(self, *args: Any, **options: Any) -> TestResponse:
        return super().open(*args, buffered=True, **options)


KEY = "test-key-of-the-administrator"


@pytest.fixture
def make_settings(tmp_path: Path, valkey: ValkeyServer, namespace: str) -> Callable[..., Settings]:
    def make(**changes: Any) -> Settings:
        values = {
            "data_dir": tmp_path / "data",
            "redis_url_override": valkey.url,
            "namespace": namespace,
            "admin_key": KEY,
            "max_upload_bytes": 1_000_000,
            **changes,
        }
        return Settings(**values)

    return make


@pytest.fixture
def make_client(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., FlaskClient]]:
    """Make a client of an application with some settings changed; the client sends the key."""
    apps: list[Flask] = []

    def make(**changes: Any) -> FlaskClient:
        app = create_app(make_settings(**changes))
        apps.append(app)
        # An answer's body is collected and closed, as a server would do; a download left open would leak its file.
        client = BufferingClient(app, app.response_class)
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {KEY}"
        return client

    yield make
    for app in apps:
        app.extensions[EXTENSION].hub.close()
        app.extensions[EXTENSION].engine.close()


@pytest.fixture
def client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    return make_client()


@pytest.fixture
def log_text(make_settings: Callable[..., Settings]) -> Iterator[Callable[[], str]]:
    """Give what was logged so far, as it would be written for machines."""
    root = logging.getLogger()
    before, level = root.handlers, root.level
    written = io.StringIO()
    root.handlers = [logging.StreamHandler(written)]
    configure_logging(make_settings(log_format="json"))
    yield written.getvalue
    root.handlers = before
    root.setLevel(level)


@pytest.fixture
def storage(make_settings: Callable[..., Settings]) -> LocalStorage:
    return LocalStorage(make_settings().storage_dir)


@pytest.fixture
def hand(engine: RedisEngine) -> Hand:
    return Hand(engine)


@pytest.fixture
def make_server(make_settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Callable[..., ApiServer]]:
    """Start the API as it is deployed, under gunicorn."""
    servers: list[ApiServer] = []

    def make(**changes: Any) -> ApiServer:
        server = ApiServer(make_settings(**changes), KEY, tmp_path / f"api-{secrets.token_hex(4)}.log")
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.stop()
