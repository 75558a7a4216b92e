"""What a queue promises: how much runs at once, how fast, and how long finished jobs are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from shared.errors import ContractError

#: Dramatiq's rule for queue names, with a bound on the length
QUEUE_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``max_jobs`` starts in a period, spread evenly; ``burst`` of them may come at once.

    It is the generic cell rate algorithm (ITU-T I.371, annex A): while jobs wait, one starts every
    ``per_ms / max_jobs``. A worker that comes late, or a queue that rested, may catch up with at most ``burst`` starts
    at once, so that no window of ``per_ms`` sees more than ``max_jobs + burst``.

    Raises:
        ContractError: when a figure is not positive.
    """

    #: jobs started at most in a period
    max_jobs: int
    #: length of the period, milliseconds
    per_ms: int
    #: starts that may come at once; None stands for a tenth of ``max_jobs``, at least 1
    burst: int | None = None

    def __post_init__(self) -> None:
        if self.max_jobs < 1 or self.per_ms < 1:
            raise ContractError(f"rate limit {self.max_jobs} per {self.per_ms} ms: both must be 1 or more.")
        if self.burst is not None and self.burst < 1:
            raise ContractError(f"rate limit burst is {self.burst}, use 1 or more.")

    @property
    def starts_at_once(self) -> int:
        """The burst that holds."""
        return max(1, self.max_jobs // 10) if self.burst is None else self.burst

    @property
    def interval_us(self) -> float:
        """Time between two starts, microseconds."""
        return self.per_ms * 1000 / self.max_jobs


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What holds for a queue over the whole cluster; None is no limit.

    Raises:
        ContractError: when a figure is below 1.
    """

    #: starts per period
    rate: RateLimit | None = None
    #: jobs that run at once
    concurrency: int | None = None
    #: jobs that wait, are delayed or blocked; adding more is refused
    max_length: int | None = None
    #: starts per period of each group
    group_rate: RateLimit | None = None
    #: jobs of each group that run at once
    group_concurrency: int | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_length", "group_concurrency"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ContractError(f"limit {name} is {value}, use 1 or more, or None for no limit.")


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
    #: completed jobs: bytes of their bodies and results; None is no bound
    completed_bytes: int | None = None
    #: failed and cancelled jobs: bytes of their bodies and errors, each; None is no bound
    failed_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if (getattr(self, name) or 0) < 0:
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
    #: what holds over the whole cluster; an operator may change it while it runs
    limits: QueueLimits = field(default_factory=QueueLimits)
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
