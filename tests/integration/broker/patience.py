"""Waiting on conditions, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: what a test waits at most; generous, since it is only waited out when the test fails
PATIENCE_S = 20.0


def eventually(condition: Callable[[], T], *, within: float = PATIENCE_S, why: str = "") -> T:
    """Give the first true value of the condition; fail when there is none in time."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within:g} s: {why or condition} (last: {value!r})"
        time.sleep(0.005)


def never(condition: Callable[[], object], *, during: float, why: str = "") -> None:
    """Fail when the condition becomes true while we look; for defects that show as something that stays away."""
    deadline = time.monotonic() + during
    while time.monotonic() < deadline:
        value = condition()
        assert not value, f"{why or condition}: {value!r}"
        time.sleep(0.01)
