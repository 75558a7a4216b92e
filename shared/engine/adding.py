"""What a job can be added with beyond its call: deduplication, idempotency, a group, a place in a flow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

from shared.errors import ValidationFailed

#: keys and group names: printable, so that they can be read in lists and stored in lines; half a surrogate pair cannot
#: be stored at all
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,200}")
#: the longest window, milliseconds: a year
LONGEST_WINDOW_MS = 366 * 24 * 3600 * 1000
#: how long an idempotency key is remembered, milliseconds
IDEMPOTENCY_MS = 24 * 3600 * 1000


def check_name(kind: str, name: str) -> str:
    """Check a deduplication key, an idempotency key or the name of a group.

    Raises:
        ValidationFailed: when it is empty, too long, or has control characters.
    """
    if not _NAME.fullmatch(name):
        raise ValidationFailed(f"The {kind} {name[:50]!r} cannot be used: 1 to 200 characters, no control ones.")
    return name


class DedupeMode(StrEnum):
    """What happens to a job whose key is held by another."""

    #: refuse it while the other is unfinished, and for a window after
    REJECT = "reject"
    #: refuse it until a window after the other was added is over
    THROTTLE = "throttle"
    #: while the other is delayed, replace its payload and start its delay anew
    DEBOUNCE = "debounce"


@dataclass(frozen=True, slots=True)
class Dedupe:
    """A deduplication key. Keys belong to a queue.

    Raises:
        ValidationFailed: when its parts do not fit together.
    """

    key: str
    mode: DedupeMode = DedupeMode.REJECT
    #: REJECT: refuse for so long after the end of the job that holds the key; THROTTLE: after it was added;
    #: DEBOUNCE: the delay of a job that names none; milliseconds
    window_ms: int = 0

    def __post_init__(self) -> None:
        check_name("deduplication key", self.key)
        if not 0 <= self.window_ms <= LONGEST_WINDOW_MS:
            raise ValidationFailed(f"The window is {self.window_ms} ms: use 0 to {LONGEST_WINDOW_MS}.")
        if self.mode is DedupeMode.THROTTLE and not self.window_ms:
            raise ValidationFailed("Throttling needs a window: give window_ms.")


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A key under which a request may be repeated: its repeat gives the job of the first.

    Raises:
        ValidationFailed: when the key cannot be used, or not for so long.
    """

    key: str
    #: of the request; another one under the same key is refused
    request_hash: str
    #: how long the key is remembered, milliseconds
    window_ms: int = IDEMPOTENCY_MS

    def __post_init__(self) -> None:
        check_name("idempotency key", self.key)
        if not 0 < self.window_ms <= LONGEST_WINDOW_MS:
            raise ValidationFailed(f"The window is {self.window_ms} ms: use 1 to {LONGEST_WINDOW_MS}.")


class AddStatus(IntEnum):
    """What became of a job that was to be added."""

    #: the idempotency key was used for another request; nothing was added
    CONFLICT = -1
    #: this very job, or one of the same idempotency key, was there already
    REPEATED = 0
    NEW = 1
    #: another job holds its deduplication key; nothing was added
    DUPLICATE = 2
    #: another job holds its deduplication key, and has its payload and its delay now
    REPLACED = 3


class Added(NamedTuple):
    """The answer to one job that was to be added."""

    status: AddStatus
    #: the job that stands for it now: itself, or the one that holds its key
    job_id: str

    @property
    def is_new(self) -> bool:
        """Whether this call added the job."""
        return self.status is AddStatus.NEW
