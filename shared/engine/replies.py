"""Replies of the server <-> our values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.engine.engine import LeasedJob
from shared.engine.record import from_json


def leased_job(prefix: str, fields: Sequence[Any]) -> LeasedJob:
    """Read a job as ``cycle`` gives it."""
    local_id, token, name, body, attempt, stalls, priority, created, options = fields
    return LeasedJob(
        id=prefix + local_id.decode(),
        token=int(token),
        name=name.decode(),
        body=body,
        attempt=int(attempt),
        stalls=int(stalls),
        priority=int(priority),
        created_ms=int(created),
        options=from_json(options) if options else {},
    )


def hash_fields(flat: Any) -> dict[str, bytes]:
    """Read a hash, as RESP2 (flat) or RESP3 (a map) gives it."""
    if isinstance(flat, dict):
        return {name.decode(): value for name, value in flat.items()}
    return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}


def stream_entries(entries: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Read the entries of a stream, as the server or as redis-py gives them."""
    # redis-py nests the entries of a stream one level deeper under RESP3.
    if entries and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], list | tuple):
        entries = [entry for part in entries for entry in part]
    return [
        (entry_id, fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True)))
        for entry_id, fields in entries
    ]


def streams(reply: Any) -> list[tuple[str, list[tuple[bytes, dict[bytes, bytes]]]]]:
    """Read the reply of XREAD, as RESP2 (pairs) or RESP3 (a map) gives it."""
    found = reply.items() if isinstance(reply, dict) else reply or ()
    return [(stream.decode(), stream_entries(entries)) for stream, entries in found]
