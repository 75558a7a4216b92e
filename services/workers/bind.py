"""Contract + handler -> Dramatiq actor."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import dramatiq
from dramatiq.asyncio import async_to_sync

from shared.broker.broker import JobBroker
from shared.contracts import FamilyContract, JobContract, validate_payload
from shared.errors import ContractError


def bind_family(broker: JobBroker, family: FamilyContract) -> list[dramatiq.Actor[..., Any]]:
    """Make an actor of every job type of a family; imports its handlers.

    Raises:
        ContractError: when a contract names a handler that is not there.
    """
    return [bind(broker, contract, load_handler(contract)) for contract in family.jobs]


def bind(broker: JobBroker, contract: JobContract, handler: Callable[..., Any]) -> dramatiq.Actor[..., Any]:
    """Make the actor of a job type.

    Args:
        broker: where it is declared.
        contract: the job type.
        handler: called as ``handler(payload, job_context)``; plain or async.
    """
    call = async_to_sync(handler) if inspect.iscoroutinefunction(handler) else handler

    def run(payload: dict[str, Any]) -> None:
        message = broker.current
        if message is None or message.context is None:
            raise ContractError(f"{contract.type} was called outside a worker; submit a job instead.")
        try:
            # Validated again: the job may have been written by an older release.
            message.result = call(validate_payload(contract.payload, payload), message.context)
        finally:
            # Whatever would interrupt it does so by now, or not at all: not while the outcome is settled.
            message.run_ended()

    limit_ms = float("inf") if contract.timeout_s is None else contract.timeout_s * 1000
    return dramatiq.Actor(
        run,
        broker=broker,
        actor_name=contract.type,
        queue_name=contract.queue,
        priority=contract.priority,
        options={"contract": contract, "time_limit": limit_ms},
    )


def load_handler(contract: JobContract) -> Callable[..., Any]:
    """Import a job type's code.

    Raises:
        ContractError: when it is not there or cannot be called.
    """
    module_name, _, function = contract.handler.partition(":")
    try:
        handler = getattr(importlib.import_module(module_name), function)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ContractError(f"{contract.type}: there is no module {module_name!r}, correct 'handler'.") from None
    except AttributeError:
        raise ContractError(f"{contract.type}: {module_name} has no {function!r}, correct 'handler'.") from None
    if not callable(handler):
        raise ContractError(f"{contract.type}: {contract.handler} is not a function, correct 'handler'.")
    return handler  # type: ignore[no-any-return]
