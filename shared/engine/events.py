"""What happened, as the scripts write it to a queue's stream <-> :class:`Event`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shared.engine.engine import Event

#: field of the stream -> field of an event's data, and how it is read
_FIELDS: dict[bytes, tuple[str, type[str] | type[int] | type[dict[str, Any]]]] = {
    b"n": ("type", str),
    b"a": ("attempt", int),
    b"t": ("stalls", int),
    b"due": ("due_ms", int),
    b"g": ("progress", dict),
    b"x": ("error", dict),
}


def decode_event(queue: str, event_id: str, fields: Mapping[bytes, bytes]) -> Event:
    """Read an entry of a queue's stream; unknown fields (of a newer writer) are passed over."""
    data: dict[str, Any] = {}
    for field, value in fields.items():
        if field in _FIELDS:
            name, kind = _FIELDS[field]
            data[name] = json.loads(value) if kind is dict else int(value) if kind is int else value.decode()
    local_id = fields.get(b"j", b"").decode()
    return Event(
        id=event_id,
        queue=queue,
        name=fields[b"e"].decode(),
        job_id=f"{queue}.{local_id}" if local_id else None,
        data=data,
    )
