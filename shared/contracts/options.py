"""What a contract says, unless the job itself says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
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


def describe_backoff(backoff: Backoff) -> dict[str, Any]:
    """Give a backoff in the words in which a job's own is stored."""
    if isinstance(backoff, FixedBackoff):
        return {"kind": "fixed", **asdict(backoff)}
    if isinstance(backoff, ExponentialBackoff):
        return {"kind": "exponential", **asdict(backoff)}
    return {"kind": type(backoff).__name__}


def effective_options(contract: JobContract | None, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Give what holds for a job: what its caller asked for, and the contract for the rest.

    Args:
        contract: of its type; None for a job of another program.
        stored: the options that are stored with it.
    """
    if contract is None:
        return dict(stored)
    defaults = {
        "attempts": contract.attempts,
        "backoff": describe_backoff(contract.backoff),
        "timeout_s": contract.timeout_s,
        "tags": [],
        "owner": None,
        "keep_s": None,
    }
    return {**defaults, **stored}
