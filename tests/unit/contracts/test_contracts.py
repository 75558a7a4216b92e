"""Contracts that contradict themselves say at once what to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ConfigDict

from shared.contracts import (
    ExponentialBackoff,
    FamilyContract,
    FixedBackoff,
    JobContract,
    Payload,
    QueueContract,
    QueueLimits,
    RateLimit,
    Retention,
)
from shared.contracts.backoff import LONGEST_DELAY_MS
from shared.errors import ContractError


class Input(Payload):
    name: str


class Loose(Payload):
    model_config = ConfigDict(extra="allow")


def job(**fields: Any) -> JobContract:
    return JobContract(
        **{"type": "demo.run", "queue": "demo", "payload": Input, "handler": "demo.handler:run", **fields}
    )


def family(**fields: Any) -> FamilyContract:
    return FamilyContract(**{"name": "demo", "queues": (QueueContract("demo"),), "jobs": (job(),), **fields})


CONTRADICTIONS: dict[str, tuple[Callable[[], object], str]] = {
    "job type without a family": (lambda: job(type="run"), "job type 'run': use 'family.action' in lower case"),
    "job type in capitals": (lambda: job(type="Demo.Run"), "job type 'Demo.Run': use"),
    "job type that ends with a dot": (lambda: job(type="demo."), "job type 'demo.': use"),
    "handler without a function": (lambda: job(handler="demo.handler"), "demo.run: handler is 'demo.handler', use"),
    "handler with a call": (lambda: job(handler="demo:run()"), "demo.run: handler is"),
    "payload of another kind": (lambda: job(payload=dict), "demo.run: payload must be a subclass of Payload"),
    "payload that is an instance": (lambda: job(payload=Input(name="x")), "demo.run: payload must be a subclass"),
    "payload that takes anything": (lambda: job(payload=Loose), "demo.run: payload accepts unknown fields, remove"),
    "no attempt": (lambda: job(attempts=0), "demo.run: attempts is 0, use 1 or more"),
    "stalls below zero": (lambda: job(max_stalls=-1), "demo.run: max_stalls is -1, use 0 or more"),
    "timeout of zero": (lambda: job(timeout_s=0), "demo.run: timeout_s is 0, use more than 0, or None"),
    "timeout below zero": (lambda: job(timeout_s=-1.5), "demo.run: timeout_s is -1.5, use"),
    "priority too low": (lambda: job(priority=-1001), "demo.run: priority is -1001, use -1000 to 1000"),
    "priority too high": (lambda: job(priority=1001), "demo.run: priority is 1001, use -1000 to 1000"),
    "isolation of another kind": (
        lambda: job(isolation="vm"),
        "demo.run: isolation is 'vm', use 'thread' or 'process'",
    ),
    "memory of a thread": (lambda: job(memory_limit_mb=500), "demo.run: memory_limit_mb needs isolation='process'"),
    "memory that nothing fits in": (
        lambda: job(isolation="process", memory_limit_mb=63),
        "demo.run: memory_limit_mb is 63, use 64 or more",
    ),
    "no time to clean up": (lambda: job(stop_grace_s=0), "demo.run: stop_grace_s is 0, use more than 0"),
    "too much time to clean up": (lambda: job(stop_grace_s=3_601), "demo.run: stop_grace_s is 3601, use"),
    "an error alone": (lambda: job(permanent_errors=ValueError), "are tuples, write .Error,."),
    "an error that is none": (lambda: job(retryable_errors=(int,)), "int'> is no error, give a type or"),
    "an error without a name": (lambda: job(permanent_errors=("a-b",)), "'a-b' is no error, give a type or"),
    "an error of both kinds": (
        lambda: job(permanent_errors=(ValueError,), retryable_errors=("ValueError",)),
        "demo.run: builtins.ValueError is both permanent and retryable, remove one",
    ),
    "queue that starts with a digit": (lambda: QueueContract("1a"), "queue name '1a': use letters, digits"),
    "queue without a name": (lambda: QueueContract(""), "queue name '': use letters"),
    "queue with a long name": (lambda: QueueContract("a" * 65), "at most 64"),
    "queue that runs nothing": (lambda: QueueContract("a", concurrency=0), "queue a: concurrency is 0, use 1 or more"),
    "no start in a period": (lambda: RateLimit(0, 1000), "rate limit 0 per 1000 ms: both must be 1 or more"),
    "a burst of nothing": (lambda: RateLimit(1, 1, 0), "rate limit burst is 0, use 1 or more"),
    "no job at once": (lambda: QueueLimits(concurrency=0), "limit concurrency is 0, use 1 or more"),
    "a period of nothing": (lambda: RateLimit(1, 0), "rate limit 1 per 0 ms: both must be 1 or more"),
    "completed_age_s": (lambda: Retention(completed_age_s=-1), "retention completed_age_s is -1: use 0"),
    "completed_count": (lambda: Retention(completed_count=-1), "retention completed_count is -1: use 0"),
    "failed_age_s": (lambda: Retention(failed_age_s=-1), "retention failed_age_s is -1: use 0"),
    "failed_count": (lambda: Retention(failed_count=-1), "retention failed_count is -1: use 0"),
    "fixed wait below zero": (lambda: FixedBackoff(-1), "wait_ms is -1: use 0 to"),
    "fixed wait in microseconds": (lambda: FixedBackoff(LONGEST_DELAY_MS + 1), "30 days"),
    "base below zero": (lambda: ExponentialBackoff(base_ms=-1), "base_ms is -1: use 0 to"),
    "cap too long": (lambda: ExponentialBackoff(cap_ms=LONGEST_DELAY_MS + 1), "cap_ms is"),
    "cap below base": (lambda: ExponentialBackoff(2_000, 1_000), r"cap_ms \(1000\) is below base_ms \(2000\): raise"),
    "waits that shrink": (lambda: ExponentialBackoff(factor=0.5), "factor is 0.5: use 1 or more"),
    "jitter below zero": (lambda: ExponentialBackoff(jitter=-0.1), "jitter is -0.1: use a share between 0 and 1"),
    "jitter above one": (lambda: ExponentialBackoff(jitter=1.1), "jitter is 1.1: use a share between 0 and 1"),
    "family in capitals": (lambda: family(name="Demo"), "family name 'Demo': use lower-case letters"),
    "a queue twice": (
        lambda: family(queues=(QueueContract("demo"), QueueContract("demo"))),
        "family demo: queue 'demo' is declared twice, remove one",
    ),
    "a job type twice": (
        lambda: family(jobs=(job(), job())),
        "family demo: job type 'demo.run' is declared twice, remove one",
    ),
    "a queue of nobody": (
        lambda: family(jobs=(job(queue="other"),)),
        r"demo.run: queue 'other' is not one of this family's \(demo\): declare it",
    ),
    "no queue at all": (lambda: family(queues=()), r"demo.run: queue 'demo' is not one of this family's \(none\)"),
    "a queue without jobs": (
        lambda: family(queues=(QueueContract("demo"), QueueContract("spare"))),
        "family demo: no job type uses queue 'spare', remove it",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradiction_says_what_to_change(case: str) -> None:
    make, message = CONTRADICTIONS[case]
    with pytest.raises(ContractError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: job(timeout_s=None, attempts=1, max_stalls=0, priority=-1000),
        lambda: job(type="a.b_c.d1", handler="a.b.c:d_e", priority=1000),
        lambda: QueueContract(
            "a.b-c_D1", concurrency=1, limits=QueueLimits(RateLimit(1, 1), 1, 1), retention=Retention(0, 0, 0, 0)
        ),
        lambda: job(isolation="process", memory_limit_mb=64, stop_grace_s=3_600),
        lambda: job(permanent_errors=(ValueError, "httpx.HTTPError"), retryable_errors=("TimeoutError", KeyError)),
        lambda: ExponentialBackoff(0, 0, 1, 1),
        lambda: FixedBackoff(LONGEST_DELAY_MS),
        family,
    ],
)
def test_the_bounds_themselves_are_allowed(make: Callable[[], object]) -> None:
    assert make() is not None


def test_contracts_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        job().attempts = 5  # type: ignore[misc]
