"""Replies of the server <-> our values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from shared.engine.engine import LeasedJob, LeaseStatus
from shared.engine.states import State


def leased_jobs(prefix: str, flat: Sequence[bytes]) -> list[LeasedJob]:
    """Read jobs as ``cycle`` gives them."""
    parts = iter(flat)
    return [_leased_job(prefix, *job) for job in zip(parts, parts, parts, parts, strict=True)]


def _leased_job(prefix: str, local_id: bytes, identity: bytes, body: bytes, counted: bytes) -> LeasedJob:
    name, priority, created, _, _, _, _, _, options = identity.decode().split("\n", 8)
    token, attempt, stalls = map(int, counted.split()) if counted else (1, 1, 0)
    return LeasedJob(
        prefix + local_id.decode(),
        token,
        name[1:],
        body,
        attempt,
        stalls,
        int(priority),
        int(created),
        json.loads(options) if options else {},
    )


def lease_status(standing: bytes | None, token: int) -> LeaseStatus:
    """Judge from how a job stands (field ``s``, see ``lua/lib/job.lua``) whether a lease is held."""
    parts = (standing or b"").decode().split(" ")
    if parts[0] != State.ACTIVE.value or parts[4] != str(token):
        return LeaseStatus.LOST
    return LeaseStatus.CANCEL_REQUESTED if "c" in parts[3] else LeaseStatus.HELD


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
