"""The three kinds of handlers: how each is called, and how it is told to stop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from dramatiq.asyncio import get_event_loop_thread
from structlog.stdlib import get_logger

from services.workers.isolation.parent import check, run_isolated
from shared.broker.run import ORDERS, Run
from shared.contracts import JobContract, validate_payload
from shared.errors import ContractError, RunStopped

log = get_logger(__name__)

#: runs a handler with its stored payload, and gives what it returned
Call = Callable[[Run, dict[str, Any]], Any]


def call_of(contract: JobContract, handler: Callable[..., Any]) -> Call:
    """Choose how the handler of a job type is called; payloads are validated first.

    They were when the job was added, but an older release may have done so.

    Raises:
        ContractError: the handler cannot be called as its contract says.
    """
    if contract.isolation == "process":
        check(contract)
        return lambda run, payload: run_isolated(contract, run, payload)
    if inspect.iscoroutinefunction(handler):
        return lambda run, payload: _on_event_loop(
            run, handler(validate_payload(contract.payload, payload), run.context)
        )
    return lambda run, payload: _on_this_thread(run, handler, validate_payload(contract.payload, payload))


def _on_this_thread(run: Run, handler: Callable[..., Any], payload: Any) -> Any:
    run.begin()
    return handler(payload, run.context)


def _on_event_loop(run: Run, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the worker's event loop, and wait for it on this thread.

    It is told to stop as asyncio does it: its task is cancelled. One that swallows that is cancelled again after its
    time of grace, and after another one left behind, so that it does not keep the thread.
    """
    loop_thread = get_event_loop_thread()
    if loop_thread is None:
        coroutine.close()
        raise ContractError("An async handler needs Dramatiq's AsyncIO middleware.")
    task = _LoopTask(loop_thread.loop, coroutine)
    run.begin(task.stop)
    task.start()
    return task.result(run.context.job_id)


class _LoopTask:
    """A coroutine on an event loop, seen from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._over = threading.Event()
        self._task: asyncio.Task[Any] | None = None
        self._reason: type[RunStopped] | None = None
        self._orders = 0

    def start(self) -> None:
        self._loop.call_soon_threadsafe(self._begin)

    def stop(self, reason: type[RunStopped]) -> None:
        """Cancel it; called by another thread, :data:`ORDERS` times at most."""
        self._reason = reason
        self._orders += 1
        if self._orders == ORDERS:
            self._over.set()
        else:
            self._loop.call_soon_threadsafe(self._cancel)

    def result(self, job_id: str) -> Any:
        """Wait for its end; raises what it raised, or why it was stopped."""
        self._over.wait()
        task = self._task
        if task is None or not task.done():
            # Its reports are refused from now on, since its lease ends with this run.
            log.error("async_handler_left_behind", job_id=job_id, detail="It ignores that it was cancelled.")
            raise self._reason or RunStopped
        if task.cancelled() and self._reason is not None:
            raise self._reason
        return task.result()

    def _begin(self) -> None:
        if self._over.is_set():
            self._coroutine.close()
            return
        self._task = self._loop.create_task(self._coroutine)
        self._task.add_done_callback(lambda _: self._over.set())
        if self._reason is not None:
            self._task.cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
