"""A job as stored <-> bytes.

A job's body is the call of its actor: ``{"a": positional arguments, "k": keyword arguments, "o": Dramatiq message
options, "i": Dramatiq message id}`` as compact JSON, with empty parts left out. A contract's job has one positional
argument, its payload. Bodies written by a Dramatiq encoder other than JSON are stored as that encoder gives them and
never decoded outside a worker (they may be pickles).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shared.engine.engine import JobRecord
from shared.engine.states import State

#: how a job stands of which only the state is stored; see ``lua/lib/job.lua``
_NEVER_RAN = ["waiting", "0", "-", "-", "0", "0", "0", "0", "0", "-"]


def to_json(value: Any) -> bytes:
    """Encode as compact JSON, UTF-8."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        # half a surrogate pair, as file names that are not UTF-8 carry them: as an escape it can be stored
        return json.dumps(value, separators=(",", ":"), default=str).encode()


def from_json(data: bytes) -> Any:
    """Decode JSON."""
    return json.loads(data)


def encode_payload(payload: Mapping[str, Any]) -> bytes:
    """Make the body of a contract's job."""
    return to_json({"a": [payload]})


def decode_payload(body: bytes) -> Mapping[str, Any] | None:
    """Give the payload of a contract's job; None when the body is another call, or none of ours."""
    if not body.startswith(b"{"):
        return None
    try:
        arguments = json.loads(body).get("a")
    except ValueError:
        return None
    if isinstance(arguments, list) and len(arguments) == 1 and isinstance(arguments[0], dict):
        return arguments[0]
    return None


def decode_record(queue: str, local_id: str, fields: Mapping[str, bytes]) -> JobRecord:
    """Read a job's hash.

    Args:
        queue: its queue.
        local_id: its id within the queue.
        fields: the hash; field names are listed in ``lua/lib/job.lua``.
    """
    name, priority, created, _, _, group, dedupe, flow_id, options = fields["i"].decode().split("\n", 8)
    standing = fields["s"].decode().split(" ")
    state = State(standing[0])
    _, at, _, flags, _, attempt, stalls, _, started, worker = standing if len(standing) > 1 else _NEVER_RAN
    attempts = [json.loads(line) for line in fields.get("at", b"").splitlines() if line]
    if state is State.ACTIVE or state is State.COMPLETED:
        # Runs that failed are kept by the scripts; the current or successful one is derived, which saves its bytes.
        attempts.append(
            {
                "attempt": int(attempt),
                "started_ms": int(started),
                "ended_ms": int(at) if state.finished else None,
                "worker": worker,
                "outcome": "complete" if state is State.COMPLETED else None,
                "error": None,
            }
        )
    return JobRecord(
        id=f"{queue}.{local_id}",
        queue=queue,
        name=name[1:],
        state=state,
        priority=int(priority),
        created_ms=int(created),
        due_ms=int(at) if state is State.DELAYED else None,
        started_ms=int(started) or None,
        finished_ms=int(at) if state.finished else None,
        attempt=int(attempt),
        stalls=int(stalls),
        worker=None if worker == "-" else worker,
        cancel_requested="c" in flags,
        payload=decode_payload(fields.get("d", b"")),
        options=json.loads(options) if options else {},
        progress=_json(fields.get("g")),
        result=_json(fields.get("r")),
        error=_json(fields.get("e")),
        attempts=attempts,
        group=group or None,
        flow_id=flow_id or None,
        waits_for=sorted(field[2:] for field in fields if field.startswith("D:")) if state is State.BLOCKED else [],
        dedupe_key=dedupe.split(" ", 2)[2] if dedupe else None,
    )


def _json(value: bytes | None) -> Any:
    return json.loads(value) if value else None
