"""Priorities: four names and the integers between them, lower first."""

from __future__ import annotations

from enum import IntEnum

from shared.errors import ValidationFailed

#: the legal range: with 42 bits of time behind it, a priority of this range fits exactly into a sorted-set score
PRIORITY_MIN = -1000
PRIORITY_MAX = 1000


class Priority(IntEnum):
    """Names for the usual priorities; any integer from -1000 to 1000 may be used instead."""

    CRITICAL = 1
    HIGH = 2
    NORMAL = 3
    LOW = 4


def parse_priority(value: str | int) -> int:
    """Turn a name or an integer into the integer that the queue sorts by.

    Raises:
        ValidationFailed: for an unknown name or an integer out of range.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValidationFailed(f"priority is {value!r}: use a name or an integer.")
    if isinstance(value, str):
        try:
            return int(Priority[value.upper()])
        except KeyError:
            names = ", ".join(name.lower() for name in Priority.__members__)
            raise ValidationFailed(f"priority is {value!r}: use {names}, or an integer.") from None
    if not PRIORITY_MIN <= value <= PRIORITY_MAX:
        raise ValidationFailed(f"priority is {value}: use {PRIORITY_MIN} to {PRIORITY_MAX}, lower runs first.")
    return int(value)
