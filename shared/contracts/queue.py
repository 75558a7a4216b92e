"""What a queue promises: how much runs at once, how fast, and how long finished jobs are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from shared.errors import ContractError

#: Dramatiq's rule for queue names, with a bound on the length
QUEUE_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``max_jobs`` starts in any ``per_ms``.

    Raises:
        ContractError: when either figure is not positive.
    """

    #: jobs started at most in a period
    max_jobs: int
    #: length of the period, milliseconds
    per_ms: int

    def __post_init__(self) -> None:
        if self.max_jobs < 1 or self.per_ms < 1:
            raise ContractError(f"rate limit {self.max_jobs} per {self.per_ms} ms: both must be 1 or more.")


@dataclass(frozen=True, slots=True)
class Retention:
    """How long finished jobs are kept in the queue, whichever bound is met first.

    Raises:
        ContractError: when a bound is negative.
    """

    #: completed jobs: age, seconds
    completed_age_s: int = 24 * 3600
    #: completed jobs: number
    completed_count: int = 1_000
    #: failed and cancelled jobs: age, seconds
    failed_age_s: int = 7 * 24 * 3600
    #: failed and cancelled jobs: number of each
    failed_count: int = 5_000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 0:
                raise ContractError(f"retention {name} is {getattr(self, name)}: use 0 (keep none) or more.")


@dataclass(frozen=True, slots=True)
class QueueContract:
    """One queue.

    Raises:
        ContractError: when the name cannot be used or the figures contradict each other.
    """

    #: name, as in the API, in Redis keys and in job ids
    name: str
    #: jobs of this queue that one worker process runs at once
    concurrency: int = 8
    #: starts per period over the whole cluster
    rate_limit: RateLimit | None = None
    #: how long finished jobs are kept
    retention: Retention = field(default_factory=Retention)
    #: one line for people
    description: str = ""

    def __post_init__(self) -> None:
        if not QUEUE_NAME.fullmatch(self.name):
            raise ContractError(
                f"queue name {self.name!r}: use letters, digits, '.', '-' and '_', at most 64, "
                "starting with a letter or '_'."
            )
        if self.concurrency < 1:
            raise ContractError(f"queue {self.name}: concurrency is {self.concurrency}, use 1 or more.")
