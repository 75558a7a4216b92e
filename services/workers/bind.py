"""Contract + handler -> Dramatiq actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dramatiq

from services.workers.handlers import load_handler
from services.workers.kinds import call_of
from shared.broker.broker import JobBroker
from shared.contracts import FamilyContract, JobContract
from shared.errors import ContractError, JobCancelled, LeaseLost


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
    call = call_of(contract, handler)

    def run(payload: dict[str, Any]) -> None:
        message = broker.current
        if message is None or message.run is None:
            raise ContractError(f"{contract.type} was called outside a worker; submit a job instead.")
        # Whatever would interrupt the run does so by the end of this, or not at all: not while the outcome is settled.
        # As deep as a run is interrupted often, see shared/broker/run.py.
        try:
            try:
                try:
                    message.result = call(message.run, payload)
                finally:
                    message.run.end()
            finally:
                message.run.end()
        finally:
            message.run.end()

    return dramatiq.Actor(
        run,
        broker=broker,
        actor_name=contract.type,
        queue_name=contract.queue,
        priority=contract.priority,
        # "throws": Dramatiq logs a traceback of everything else
        options={"contract": contract, "throws": (JobCancelled, LeaseLost)},
    )
