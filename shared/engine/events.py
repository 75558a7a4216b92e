"""What happened, as the scripts write it to a queue's stream <-> :class:`Event`.

An entry of the stream holds up to 32 events. The last of an entry has the entry's id, ``<ms>-<n>``, so that reading
after it goes on with the next entry; those before it have ``<ms>-<n>.<index>``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from shared.engine.engine import Event

#: field of an event -> field of its data, and how it is read
_FIELDS: dict[str, tuple[str, type[str] | type[int] | type[dict[str, Any]]]] = {
    "n": ("type", str),
    "a": ("attempt", int),
    "t": ("stalls", int),
    "p": ("priority", int),
    "due": ("due_ms", int),
    "blocked": ("waits_for", int),
    "g": ("progress", dict),
    "x": ("error", dict),
}
_POSITION = re.compile(r"(\d+)-(\d+)(?:\.(\d+))?")
#: largest second half of a stream's id
_LAST = 2**64 - 1


def decode_events(queue: str, entry_id: str, fields: Mapping[bytes, bytes], *, after: str = "0") -> list[Event]:
    """Read an entry of a queue's stream.

    Args:
        queue: the queue.
        entry_id: id of the entry.
        fields: the entry; what it has beyond the events (of a newer writer) is passed over.
        after: position to go on from; events of this entry up to it are left out.
    """
    lines = fields.get(b"b", b"").decode().split("\n")
    known, _, index = after.partition(".")
    first = int(index) + 1 if index and known == entry_id else 0
    return [
        _decode(queue, f"{entry_id}.{n}" if n < len(lines) - 1 else entry_id, lines[n])
        for n in range(first, len(lines))
        if lines[n]
    ]


def _decode(queue: str, event_id: str, line: str) -> Event:
    name, local_id, *rest = line.split("\t")
    data: dict[str, Any] = {}
    for field, value in zip(rest[::2], rest[1::2], strict=False):
        if field in _FIELDS:
            key, kind = _FIELDS[field]
            data[key] = json.loads(value) if kind is dict else int(value) if kind is int else value
    return Event(id=event_id, queue=queue, name=name, job_id=f"{queue}.{local_id}" if local_id else None, data=data)


def entry_before(position: str) -> str:
    """Give the entry after which to read a stream so as to find the events after a position."""
    match = _POSITION.fullmatch(position)
    if match is None or match[3] is None:
        return position
    ms, n = int(match[1]), int(match[2])
    return f"{ms}-{n - 1}" if n else f"{ms - 1}-{_LAST}"


def order_of(position: str) -> tuple[int, int, float]:
    """Give what positions of one queue are compared by."""
    ms, _, rest = position.partition("-")
    n, _, index = rest.partition(".")
    return int(ms), int(n or 0), int(index) if index else float("inf")
