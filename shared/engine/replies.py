"""Replies of the server <-> our values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.engine.engine import LeasedJob, LeaseStatus
from shared.engine.record import from_json
from shared.engine.states import State


def leased_job(prefix: str, fields: Sequence[Any]) -> LeasedJob:
    """Read a job as ``cycle`` gives it."""
    local_id, token, attempt, stalls, identity, body = fields
    name, priority, created, _, _, _, _, _, options = identity.split(b"\n", 8)
    return LeasedJob(
        prefix + local_id.decode(),
        int(token),
        name.decode(),
        body,
        int(attempt),
        int(stalls),
        int(priority),
        int(created),
        from_json(options) if options else {},
    )


def lease_status(standing: bytes | None, token: int) -> LeaseStatus:
    """Judge from how a job stands (field ``s``, see ``lua/lib/job.lua``) whether a lease is held."""
    parts = (standing or b"").decode().split(" ")
    if parts[0] != State.ACTIVE.value or parts[1] != str(token):
        return LeaseStatus.LOST
    return LeaseStatus.CANCEL_REQUESTED if "c" in parts[9] else LeaseStatus.HELD


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
