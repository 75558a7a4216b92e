"""The process of one isolated run: gets its order over a pipe, runs the handler, and says how that ended.

Imports little until it has its order; what the handler imports is imported here and never in the worker's memory.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import importlib
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import reduce
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from structlog.contextvars import bind_contextvars

from services.workers.handlers import load_function
from services.workers.isolation.reports import PipePort
from shared.config import load_settings
from shared.context import JobContext
from shared.contracts import validate_payload
from shared.engine.record import from_json, to_json
from shared.errors import RunStopped
from shared.failures import ErrorTable, classify, error_fields
from shared.log import configure_logging
from shared.results import encode_result

_PR_SET_PDEATHSIG = 1


def main(fd: int, worker: int) -> None:
    """Run one job.

    Args:
        fd: the pipe to the worker.
        worker: its process id.
    """
    os.set_inheritable(fd, False)
    _die_with(worker)
    _prefer_to_be_killed()
    # A crash in native code leaves its stack in the worker's log.
    faulthandler.enable()
    line = _Line(Connection(fd))
    stop = _Stop()
    try:
        order = line.receive()
    except (EOFError, OSError):
        sys.exit(1)
    end = _run(order, line, stop)
    stop.ignore()
    line.send(end)


def _run(order: dict[str, Any], line: _Line, stop: _Stop) -> dict[str, Any]:
    own = ErrorTable(*order["errors"])
    try:
        given = {**order["job"], "tags": tuple(order["job"]["tags"])}
        context = _Context(line.port, stage=line.port.enqueue, **given)
        configure_logging(load_settings())
        bind_contextvars(job_id=context.job_id, job_type=order["type"], attempt=context.attempt)
        threading.Thread(target=line.read, name="callboard-worker-line", daemon=True).start()
        handler = load_function(order["handler"], of=order["type"])
        payload = validate_payload(_model(order["model"]), order["payload"])
        line.send({"begun": True})
        result = stop.call(handler, payload, context)
        context.flush()
        return {"end": "result", "data": encode_result(result).decode()}
    except RunStopped as stopped:
        return {"end": "stopped", "code": stopped.code}
    except BaseException as error:  # noqa: BLE001 - the worker decides what it means
        if stop.asked and isinstance(error, asyncio.CancelledError):
            return {"end": "stopped", "code": RunStopped.code}
        verdict = classify(error, own)
        fields = from_json(to_json(error_fields(error, retryable=verdict.retryable)))
        return {"end": "error", "fields": fields, "retry_after_s": verdict.retry_after_s}


class _Context(JobContext):
    """Lets the worker know at once that the handler looks by itself, since such a one is given time to stop."""

    @property
    def cancelled(self) -> bool:
        if not self.polls:
            self.notice(self._port.lease_status(self.job_id, self.token))
        return super().cancelled


def _model(path: str) -> Any:
    module, _, name = path.partition(":")
    return reduce(getattr, name.split("."), importlib.import_module(module))


class _Stop:
    """SIGTERM, which the worker sends when the run is to stop: ends the handler once, and never what comes after it."""

    def __init__(self) -> None:
        self.asked = False
        self._running = False
        # Those that the worker ignores would be ignored here and by every program that the handler starts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(signal.SIGTERM, self._on_signal)

    def call(self, handler: Callable[..., Any], payload: Any, context: JobContext) -> Any:
        """Call a handler, plain or async, so that the signal ends it."""
        if self.asked:
            raise RunStopped
        if inspect.iscoroutinefunction(handler):
            return asyncio.run(self._until_asked(handler(payload, context)))
        self._running = True
        try:
            return handler(payload, context)
        finally:
            self._running = False

    def ignore(self) -> None:
        """Stop no more."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _on_signal(self, *_: object) -> None:
        first, self.asked = not self.asked, True
        if first and self._running:
            raise RunStopped

    async def _until_asked(self, coroutine: Any) -> Any:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        if task is not None:
            loop.add_signal_handler(signal.SIGTERM, self._cancel, task)
        try:
            return await coroutine
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, self._on_signal)

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        self.asked = True
        task.cancel()


class _Line:
    """The pipe to the worker."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self.port = PipePort(self.send)

    def send(self, message: dict[str, Any]) -> None:
        data = to_json(message)
        with self._sending:
            self._connection.send_bytes(data)

    def receive(self) -> dict[str, Any]:
        return dict(from_json(self._connection.recv_bytes()))

    def read(self) -> None:
        """Hand replies out, until the worker is gone: then nobody wants this run any more."""
        try:
            while True:
                self.port.replied(self.receive())
        except (EOFError, OSError):
            os.killpg(os.getpgrp(), signal.SIGKILL)


def _die_with(worker: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker:
        # It died before that.
        sys.exit(1)


def _prefer_to_be_killed() -> None:
    # When memory runs out the kernel ends the job and not the worker with all its jobs.
    try:
        Path("/proc/self/oom_score_adj").write_text("500")
    except OSError:
        return
