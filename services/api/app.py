"""Puts the application together."""

from __future__ import annotations

import hashlib

from flask import Flask

from services.api import events, files, health, jobs, queues, types
from services.api.auth import AdminKey, load_admin_key, register_guard
from services.api.backend import EXTENSION, Backend
from services.api.bodies import MAX_JSON_BYTES
from services.api.compat import aiglossarypro
from services.api.envelope import register_envelope
from services.api.errors import register_errors
from services.api.hub import EventHub
from services.api.uploads import register_lingering
from shared.config import Settings, load_settings
from shared.contracts import Catalogue, discover
from shared.engine.engine import Engine
from shared.engine.redis import RedisEngine
from shared.inline import InlineEngine
from shared.storage import LocalStorage, open_storage

_BLUEPRINTS = (
    files.blueprint,
    jobs.blueprint,
    queues.blueprint,
    types.blueprint,
    events.blueprint,
    health.blueprint,
    aiglossarypro.blueprint,
)


def create_app(
    settings: Settings | None = None,
    *,
    engine: Engine | None = None,
    storage: LocalStorage | None = None,
    catalogue: Catalogue | None = None,
) -> Flask:
    """Make the application.

    Nothing connects and no thread starts before the first request, so that a server may fork after this.

    Args:
        settings: the environment's when left out.
        engine: the queue; what the settings name when left out, as for the others.
        storage: where files are.
        catalogue: job types.
    """
    settings = settings or load_settings()
    # No static folder: its route would be one more address to guard.
    app = Flask("services.api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_JSON_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]  # documents are in the order in which people read them
    # Redirects would answer before the guard and lose bodies; an address is right or it is not there.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    key = load_admin_key(settings)
    app.extensions[EXTENSION] = _backend(settings, key, engine, storage, catalogue)
    register_envelope(app)
    register_guard(app, [AdminKey(key)])
    register_lingering(app)
    register_errors(app)
    for blueprint in _BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app


def _engine(settings: Settings, catalogue: Catalogue) -> Engine:
    return RedisEngine.from_settings(settings) if settings.queue_enabled else InlineEngine(catalogue)


def _backend(
    settings: Settings,
    key: str,
    engine: Engine | None,
    storage: LocalStorage | None,
    catalogue: Catalogue | None,
) -> Backend:
    catalogue = catalogue or discover(settings.families_package)
    engine = engine or _engine(settings, catalogue)
    return Backend(
        settings=settings,
        catalogue=catalogue,
        engine=engine,
        storage=storage or open_storage(settings),
        # A quarter of the threads is left for requests that are not streams.
        hub=EventHub(engine, max_subscribers=settings.api_threads - max(1, settings.api_threads // 4)),
        secret=hashlib.sha256(b"callboard cursors\0" + key.encode()).digest(),
    )
