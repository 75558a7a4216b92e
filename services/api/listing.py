"""Lists of jobs over several queues and states, in parts."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass

from services.api.bodies import wrong_field
from shared.engine.engine import Engine, JobRecord
from shared.engine.states import State
from shared.errors import ValidationFailed

#: what runs comes first, then what will, then what did
ORDER = (
    State.ACTIVE,
    State.WAITING,
    State.DELAYED,
    State.BLOCKED,
    State.FAILED,
    State.COMPLETED,
    State.CANCELLED,
)
#: jobs looked at for one answer; a filter that matches few of them gives a short part, and a cursor to go on with
MOST_READ = 2_000


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs, and in which direction."""

    queues: tuple[str, ...]
    states: tuple[State, ...]
    type: str | None = None
    newest_first: bool = False

    @property
    def sections(self) -> list[tuple[State, str]]:
        """The lists of the engine that together make this one, in order."""
        return [(state, queue) for state in ORDER if state in self.states for queue in self.queues]


@dataclass(frozen=True, slots=True)
class _Place:
    #: index of the section
    section: int
    #: the engine's cursor in it
    cursor: str | None


def list_jobs(
    engine: Engine, wanted: JobFilter, *, limit: int, cursor: str | None, secret: bytes
) -> tuple[list[JobRecord], str | None]:
    """Read the next part of a list; gives the jobs, and the cursor of the part after it (None at the end).

    Raises:
        ValidationFailed: when the cursor is not one that was given for this list.
    """
    place: _Place | None = _read_cursor(cursor, wanted, secret) if cursor else _Place(0, None)
    sections = wanted.sections
    found: list[JobRecord] = []
    read = 0
    while place is not None and place.section < len(sections) and len(found) < limit and read < MOST_READ:
        state, queue = sections[place.section]
        size = limit - len(found)
        page = engine.list(queue, state, cursor=place.cursor, limit=size, newest_first=wanted.newest_first)
        found += [job for job in page.jobs if wanted.type is None or job.name == wanted.type]
        # An empty section costs a call as well.
        read += max(len(page.jobs), 1)
        place = _Place(place.section, page.cursor) if page.cursor else _Place(place.section + 1, None)
    if place is None or place.section >= len(sections):
        return found, None
    return found, _write_cursor(place, wanted, secret)


def _write_cursor(place: _Place, wanted: JobFilter, secret: bytes) -> str:
    body = json.dumps([place.section, place.cursor], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_seal(body, wanted, secret) + body).decode().rstrip("=")


def _read_cursor(text: str, wanted: JobFilter, secret: bytes) -> _Place:
    """Read a cursor. It is sealed, so what is in it is ours, and was given for the same list."""
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raise _wrong_cursor() from None
    body = raw[_SEAL_BYTES:]
    if not hmac.compare_digest(raw[:_SEAL_BYTES], _seal(body, wanted, secret)):
        raise _wrong_cursor()
    section, cursor = json.loads(body)
    return _Place(section, cursor)


_SEAL_BYTES = 16


def _seal(body: bytes, wanted: JobFilter, secret: bytes) -> bytes:
    about = repr((wanted.queues, [str(state) for state in wanted.states], wanted.type, wanted.newest_first)).encode()
    return hmac.digest(secret, hashlib.sha256(about).digest() + body, "sha256")[:_SEAL_BYTES]


def _wrong_cursor() -> ValidationFailed:
    return wrong_field("cursor", "is not one that was given for this list; leave it out to start again")


def parse_states(names: Sequence[str]) -> tuple[State, ...]:
    """Read names of states; none stands for all.

    Raises:
        ValidationFailed
    """
    try:
        return tuple(sorted({State(name) for name in names}, key=ORDER.index)) or ORDER
    except ValueError:
        raise wrong_field("state", f"use {', '.join(ORDER)}") from None
