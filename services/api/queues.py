"""``/api/v1/queues``: how full they are, and whether they run."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from services.api.backend import Backend, backend
from services.api.documents import API, queue_document, queue_owner

blueprint = Blueprint("queues", __name__, url_prefix=f"{API}/queues")


@blueprint.get("")
def list_all() -> dict[str, Any]:
    """List all queues."""
    the = backend()
    return {"queues": [_describe(the, name) for name in the.catalogue.queues]}


@blueprint.get("/<name>")
def describe(name: str) -> dict[str, Any]:
    """Describe a queue."""
    return _describe(backend(), name)


@blueprint.post("/<name>/pause")
def pause(name: str) -> dict[str, Any]:
    """Stop handing out the queue's jobs; running ones go on."""
    the = backend()
    the.engine.pause(the.catalogue.queue(name).name)
    return _describe(the, name)


@blueprint.post("/<name>/resume")
def resume(name: str) -> dict[str, Any]:
    """Hand a paused queue's jobs out again."""
    the = backend()
    the.engine.resume(the.catalogue.queue(name).name)
    return _describe(the, name)


def _describe(the: Backend, name: str) -> dict[str, Any]:
    queue = the.catalogue.queue(name)
    return queue_document(queue_owner(the.catalogue, name), queue, the.engine.counts(name))
