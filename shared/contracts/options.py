"""What a contract says, unless the job itself says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.contracts.backoff import Backoff, ExponentialBackoff, FixedBackoff
from shared.contracts.job import JobContract


def effective_attempts(contract: JobContract, options: Mapping[str, Any]) -> int:
    """How often the job may run."""
    return int(options.get("attempts", contract.attempts))


def effective_timeout_s(contract: JobContract, options: Mapping[str, Any]) -> float | None:
    """How long one attempt may take, seconds."""
    timeout_s = options.get("timeout_s", contract.timeout_s)
    return None if timeout_s is None else float(timeout_s)


def effective_backoff(contract: JobContract, options: Mapping[str, Any]) -> Backoff:
    """How long to wait between attempts.

    A job's own backoff is ``{"kind": "fixed", "wait_ms": 5000}`` or ``{"kind": "exponential", "base_ms": 1000, …}``.

    Raises:
        ContractError: when its figures contradict each other.
    """
    given = options.get("backoff")
    if not given:
        return contract.backoff
    figures = {name: value for name, value in given.items() if name != "kind"}
    return FixedBackoff(**figures) if given["kind"] == "fixed" else ExponentialBackoff(**figures)
