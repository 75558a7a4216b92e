"""The worker's side of an isolated run: starts the process, serves its reports, and says how it ended."""

from __future__ import annotations

import json
import math
import signal
import time
from typing import Any

from structlog.stdlib import get_logger

from services.workers.isolation.memory import group_rss_bytes, oom_kills
from services.workers.isolation.process import GroupLeader
from services.workers.isolation.reports import answer
from shared.broker.run import Run
from shared.contracts import JobContract, validate_payload
from shared.errors import ContractError, JobCancelled, LeaseLost, OutOfMemory, ProcessDied, RunStopped
from shared.failures import DescribedError

log = get_logger(__name__)

#: how often the process, its orders and its memory are looked at while it says nothing, seconds
TICK_S = 0.1
#: how long the process may take to start and import the handler; only then its timeout begins to run
START_S = 120.0
_MIB = 1 << 20


def check(contract: JobContract) -> None:
    """Refuse what another process could not import.

    Raises:
        ContractError: says what to change.
    """
    if "<locals>" in contract.payload.__qualname__:
        name = contract.payload.__name__
        raise ContractError(f"{contract.type}: declare {name} at the top of a module, another process imports it.")


def run_isolated(contract: JobContract, run: Run, payload: dict[str, Any]) -> Any:
    """Run a job's handler in a process of its own, and give what it returned.

    When the run is told to stop, its process group gets SIGTERM, and SIGKILL after its time of grace.

    Raises:
        DescribedError: the handler failed.
        OutOfMemory: the process took more than the contract's limit, or the kernel killed it for want of memory.
        ProcessDied: the process ended without saying how the handler did.
        RunStopped: it was told to stop, and did or was killed.
    """
    validate_payload(contract.payload, payload)
    # Nothing is raised in this thread: it looks at run.orders.
    run.begin(lambda _: None, head_start_s=START_S)
    with GroupLeader(grace_s=contract.stop_grace_s) as process:
        process.send(order_of(contract, run, payload))
        return _Watch(contract, run, process).until_end()


def order_of(contract: JobContract, run: Run, payload: dict[str, Any]) -> dict[str, Any]:
    """Give what the process is told to do; see ``child.py``."""
    context, model = run.context, contract.payload
    return {
        "type": contract.type,
        "handler": contract.handler,
        "model": f"{model.__module__}:{model.__qualname__}",
        "payload": payload,
        "errors": contract.error_names,
        "job": {
            "job_id": context.job_id,
            "token": context.token,
            "attempt": context.attempt,
            "attempts": context.attempts,
            "owner": context.owner,
            "tags": context.tags,
        },
    }


class _Watch:
    """Waits for the end of one isolated run."""

    def __init__(self, contract: JobContract, run: Run, process: GroupLeader) -> None:
        self._contract = contract
        self._run = run
        self._process = process
        self._limit = math.inf if contract.memory_limit_mb is None else contract.memory_limit_mb * _MIB
        self._over_limit: int | None = None
        self._measured_at = 0.0
        self._oom_kills = oom_kills()
        self._told = 0

    def until_end(self) -> Any:
        """Give what the handler returned, or raise how it ended otherwise."""
        end: dict[str, Any] | None = None
        while end is None and self._over_limit is None:
            gone = self._process.has_ended()
            # In this order: what it said before it ended is still there.
            said = self._process.receive(0 if gone else TICK_S)
            if said is not None:
                end = self._heard(said)
            elif gone:
                break
            self._obey()
            self._measure()
        return self._result(end, self._process.end(at_once=end is None))

    def _heard(self, said: dict[str, Any]) -> dict[str, Any] | None:
        if "end" in said:
            return said
        if "begun" in said:
            self._run.restart_clock()
            return None
        self._process.send(answer(self._run.context, said))
        return None

    def _obey(self) -> None:
        # Here and not where the order is given: this thread alone knows whether the process is still there.
        if self._told == 0 and self._run.orders:
            self._told = 1
            self._process.signal(signal.SIGTERM)
        elif self._told == 1 and self._run.orders > 1:
            self._told = 2
            log.warning("isolated_run_killed", job_id=self._run.context.job_id, after_s=self._contract.stop_grace_s)
            self._process.signal(signal.SIGKILL)

    def _measure(self) -> None:
        now = time.monotonic()
        if self._limit == math.inf or now < self._measured_at + TICK_S:
            return
        self._measured_at = now
        taken = group_rss_bytes(self._process.pid)
        if taken > self._limit:
            self._over_limit = taken
            self._process.signal(signal.SIGKILL)

    def _result(self, end: dict[str, Any] | None, code: int) -> Any:
        if self._over_limit is not None:
            raise OutOfMemory(
                f"The job took {self._over_limit // _MIB} MiB, its limit is {self._contract.memory_limit_mb} MiB.",
                limit_mb=self._contract.memory_limit_mb,
            )
        how = end["end"] if end else None
        if end and how == "result":
            return json.loads(end["data"]) if end["data"] else None
        if end and how == "error":
            raise DescribedError(end["fields"], end["retry_after_s"])
        if end and end["code"] != RunStopped.code:
            # The handler asked and stopped by itself.
            raise LeaseLost if end["code"] == LeaseLost.code else JobCancelled
        raise self._died(code)

    def _died(self, code: int) -> BaseException:
        reason = self._run.reason
        if self._told and reason is not None:
            killed = f" It had to be killed after {self._contract.stop_grace_s:g} s." if self._told > 1 else ""
            return reason(f"{reason().detail}{killed}") if killed else reason()
        if code >= 0:
            return ProcessDied(f"The job's process ended with exit code {code} and no result.", exit_code=code)
        name = _signal_name(-code)
        if -code == signal.SIGKILL and self._oom_kills is not None and (oom_kills() or 0) > self._oom_kills:
            return OutOfMemory("The kernel killed the job's process for want of memory.", signal=name)
        return ProcessDied(f"The job's process was ended by {name}.", signal=name)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        # real-time signals have no names
        return f"signal {number}"
