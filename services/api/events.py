"""``/api/v1/events``: what happens in the queues, as it happens."""

from __future__ import annotations

from flask import Blueprint, Response

from services.api.backend import backend
from services.api.bodies import check_query, query_list
from services.api.documents import API
from services.api.following import follow_queues

blueprint = Blueprint("events", __name__, url_prefix=f"{API}/events")


@blueprint.get("")
def follow() -> Response:
    """Follow all queues, or those that are named."""
    check_query(["queue"])
    the = backend()
    named = query_list("queue") or list(the.catalogue.queues)
    return follow_queues(the, tuple(sorted({the.catalogue.queue(name).name for name in named})))
