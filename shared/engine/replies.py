"""Replies of the server <-> our values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

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
    """Read the entries of a stream."""
    # RESP3 nests the entries of a stream one level deeper than RESP2.
    if entries and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], list | tuple):
        entries = [entry for part in entries for entry in part]
    return cast("list[tuple[bytes, dict[bytes, bytes]]]", entries)
