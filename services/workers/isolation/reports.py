"""What an isolated handler's context asks of the worker: a small call over the pipe, answered by the real context.

Both ends stand here side by side: :class:`PipePort` in the process of the handler, :func:`answer` in the worker.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from shared.context import JobContext, check_staged_bytes
from shared.engine.engine import LeaseStatus
from shared.engine.flows import DependencyResult
from shared.engine.record import from_json, to_json
from shared.errors import (
    CallboardError,
    ContractError,
    EngineUnavailable,
    LeaseLost,
    PermanentError,
    UnknownJobType,
    ValidationFailed,
)

if TYPE_CHECKING:
    from shared.options import JobOptions

#: errors that a call may raise in the handler
_OWN: dict[str, type[CallboardError]] = {
    kind.__name__: kind for kind in (EngineUnavailable, PermanentError, ValidationFailed, UnknownJobType, ContractError)
}
_OTHERS: dict[str, type[BaseException]] = {kind.__name__: kind for kind in (LeaseLost, ValueError, TypeError)}


def answer(context: JobContext, said: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out a call of :class:`PipePort`, and give the reply to it."""
    try:
        value = _CALLS[said["do"]](context, *said["with"])
    except Exception as error:  # noqa: BLE001 - raised again where the handler called
        return _refusal(said, error)
    except LeaseLost as error:
        return _refusal(said, error)
    return {"reply": said["call"], "value": value}


def _refusal(said: Mapping[str, Any], error: BaseException) -> dict[str, Any]:
    extra = from_json(to_json(error.extra)) if isinstance(error, CallboardError) else {}
    return {"reply": said["call"], "error": type(error).__name__, "detail": str(error), "extra": extra}


def _raise(message: Mapping[str, Any]) -> None:
    name, detail = message["error"], message["detail"]
    if name in _OWN:
        raise _OWN[name](detail, **message["extra"])
    raise _OTHERS.get(name, RuntimeError)(detail)


def _progress(context: JobContext, percent: float, message: str | None, data: dict[str, Any]) -> int:
    context.progress(percent, message, **data)
    return context.status


def _log(context: JobContext, level: str, message: str, data: dict[str, Any]) -> None:
    context.log(message, level, **data)


def _save(context: JobContext, state: str) -> int:
    context.checkpoint.save(base64.b64decode(state))
    return context.status


def _load(context: JobContext) -> str | None:
    state = context.checkpoint.load()
    return None if state is None else base64.b64encode(state).decode()


def _lease_status(context: JobContext) -> int:
    # Asked for by the handler alone, so it is one that looks by itself.
    context.polls = True
    return context.refresh()


def _results(context: JobContext) -> dict[str, dict[str, Any]]:
    return {
        job_id: {"state": end.state, "result": end.result, "error": end.error}
        for job_id, end in context.results.items()
    }


def _enqueue(context: JobContext, job_type: str, payload: dict[str, Any], options: dict[str, Any] | None) -> str:
    return context.enqueue(job_type, payload, options)


_CALLS: dict[str, Callable[..., Any]] = {
    "progress": _progress,
    "log": _log,
    "save_checkpoint": _save,
    "load_checkpoint": _load,
    "lease_status": _lease_status,
    "results": _results,
    "enqueue": _enqueue,
}


class PipePort:
    """The :class:`shared.context.JobPort` of an isolated handler; its methods may be called from any thread.

    Args:
        send: sends a message to the worker.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._mutex = threading.Lock()
        self._calls = 0
        self._waiting: dict[int, _Reply] = {}

    def replied(self, message: Mapping[str, Any]) -> None:
        """Take a reply in; called by the thread that reads the pipe."""
        reply = self._waiting.pop(message["reply"], None)
        if reply is not None:
            reply.message = message
            reply.there.set()

    # The worker knows which job it is, and under which lease.
    # ruff: noqa: ARG002

    def progress(
        self, job_id: str, token: int, percent: float, message: str | None, data: Mapping[str, Any]
    ) -> LeaseStatus:
        """See :class:`shared.context.JobPort`."""
        return LeaseStatus(self._call("progress", percent, message, data))

    def log(self, job_id: str, token: int, level: str, message: str, data: Mapping[str, Any]) -> None:
        """See :class:`shared.context.JobPort`."""
        self._call("log", level, message, data)

    def save_checkpoint(self, job_id: str, token: int, state: bytes) -> LeaseStatus:
        """See :class:`shared.context.JobPort`."""
        return LeaseStatus(self._call("save_checkpoint", base64.b64encode(state).decode()))

    def load_checkpoint(self, job_id: str) -> bytes | None:
        """See :class:`shared.context.JobPort`."""
        state = self._call("load_checkpoint")
        return None if state is None else base64.b64decode(state)

    def lease_status(self, job_id: str, token: int) -> LeaseStatus:
        """See :class:`shared.context.JobPort`."""
        return LeaseStatus(self._call("lease_status"))

    def results(self, job_id: str) -> Mapping[str, DependencyResult]:
        """See :class:`shared.context.JobPort`."""
        return {job: DependencyResult(**end) for job, end in self._call("results").items()}

    def enqueue(self, job_type: str, payload: Mapping[str, Any], options: JobOptions | Mapping[str, Any] | None) -> str:
        """See :meth:`shared.context.JobContext.enqueue`."""
        # Here, since the worker hangs up on a message that is larger than any should be.
        check_staged_bytes(len(to_json(payload)))
        given = options if options is None or isinstance(options, Mapping) else options.model_dump(mode="json")
        return str(self._call("enqueue", job_type, payload, given))

    def _call(self, do: str, *arguments: Any) -> Any:
        reply = _Reply()
        with self._mutex:
            self._calls += 1
            number = self._calls
            self._waiting[number] = reply
        self._send({"call": number, "do": do, "with": arguments})
        reply.there.wait()
        if "error" in reply.message:
            _raise(reply.message)
        return reply.message["value"]


class _Reply:
    def __init__(self) -> None:
        self.there = threading.Event()
        self.message: Mapping[str, Any] = {}
