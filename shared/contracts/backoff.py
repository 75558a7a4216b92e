"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Protocol

from shared.errors import ContractError

#: no delay between attempts is longer than this; a longer one is a mistake in seconds and milliseconds
LONGEST_DELAY_MS = 30 * 24 * 3600 * 1000


class Backoff(Protocol):
    """The wait between two attempts."""

    def delay_ms(self, attempt: int) -> int:
        """Give the wait after ``attempt`` (counted from 1) failed, in milliseconds."""
        ...


@dataclass(frozen=True, slots=True)
class FixedBackoff:
    """The same wait after every attempt.

    Raises:
        ContractError: when the wait is negative or longer than 30 days.
    """

    #: the wait, milliseconds
    wait_ms: int

    def __post_init__(self) -> None:
        _check(self.wait_ms, "wait_ms")

    def delay_ms(self, attempt: int) -> int:  # noqa: ARG002 - part of the protocol
        """Give the wait, whatever the attempt."""
        return self.wait_ms


@dataclass(frozen=True, slots=True)
class ExponentialBackoff:
    """A wait that grows by a factor after each attempt, up to a cap.

    With ``jitter`` j the wait is drawn evenly from [(1 - j) * wait, wait], so that jobs which failed together do
    not return together (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015; j = 1 is its "full jitter").

    Raises:
        ContractError: when the figures contradict each other.
    """

    #: wait after the first attempt, milliseconds
    base_ms: int = 1_000
    #: longest wait, milliseconds
    cap_ms: int = 3_600_000
    #: growth from one attempt to the next
    factor: float = 2.0
    #: share of the wait that is random, 0 to 1
    jitter: float = 0.0

    def __post_init__(self) -> None:
        _check(self.base_ms, "base_ms")
        _check(self.cap_ms, "cap_ms")
        if self.cap_ms < self.base_ms:
            raise ContractError(f"cap_ms ({self.cap_ms}) is below base_ms ({self.base_ms}): raise cap_ms.")
        if self.factor < 1:
            raise ContractError(f"factor is {self.factor}: use 1 or more, or the waits would shrink.")
        if not 0 <= self.jitter <= 1:
            raise ContractError(f"jitter is {self.jitter}: use a share between 0 and 1.")

    def delay_ms(self, attempt: int) -> int:
        """Give the wait after ``attempt`` (counted from 1) failed, in milliseconds."""
        try:
            wait = min(float(self.cap_ms), self.base_ms * self.factor ** (max(attempt, 1) - 1))
        except OverflowError:
            wait = float(self.cap_ms)
        return round(wait * (1 - self.jitter * random.random()))  # noqa: S311 - spreads load, guards nothing


def _check(value: int, name: str) -> None:
    if not 0 <= value <= LONGEST_DELAY_MS:
        raise ContractError(f"{name} is {value}: use 0 to {LONGEST_DELAY_MS} milliseconds (30 days).")
