"""What a job type promises."""

from __future__ import annotations

import builtins
import inspect
import re
from dataclasses import dataclass, field
from typing import Literal

from shared.contracts.backoff import Backoff, ExponentialBackoff
from shared.contracts.payload import Payload
from shared.contracts.priority import PRIORITY_MAX, PRIORITY_MIN, Priority
from shared.errors import ContractError

#: ``family.action``, lower case
JOB_TYPE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
#: ``package.module:function``
HANDLER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
#: ``package.module.Class``, or the name of a built-in error
ERROR_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
#: what the interpreter and the library take in a process of their own, roughly
MEMORY_LEAST_MB = 64
#: a worker that is told to stop waits for its jobs, and whoever told it waits for the worker
STOP_GRACE_MOST_S = 3_600.0


@dataclass(frozen=True, slots=True)
class JobContract:
    """One job type: its input, where it runs, and what happens when it fails.

    Raises:
        ContractError: when the contract contradicts itself; the message says what to change.
    """

    #: name as in the API, e.g. ``imports.excel``
    type: str
    #: queue that it runs on
    queue: str
    #: model of its input
    payload: builtins.type[Payload]
    #: where its code is, ``package.module:function``; a string, so that the API never imports it
    handler: str
    #: how often it may run before it is failed
    attempts: int = 3
    #: wait between attempts
    backoff: Backoff = field(default_factory=ExponentialBackoff)
    #: priority when the caller names none
    priority: int = Priority.NORMAL
    #: longest run of one attempt, seconds; None for no limit
    timeout_s: float | None = 600.0
    #: how often its worker may die under it, with no progress in between, before it is failed as a poison job
    max_stalls: int = 3
    #: where a run takes place: on a thread of the worker (async handlers on its event loop), or in a process of its own
    #: that is killed with all that it started; for code that no exception reaches, or that may take all memory
    isolation: Literal["thread", "process"] = "thread"
    #: memory that a run with ``isolation="process"`` may take with all its processes, MiB; None for no limit
    memory_limit_mb: int | None = None
    #: how long a run that is told to stop may take to clean up before stronger means are used, seconds
    stop_grace_s: float = 5.0
    #: errors that no further attempt can mend: types, or names as ``package.module.Class``; subclasses count
    permanent_errors: tuple[builtins.type[BaseException] | str, ...] = ()
    #: errors that another attempt may mend, likewise; of both, the one nearest to the error's own type counts
    retryable_errors: tuple[builtins.type[BaseException] | str, ...] = ()
    #: one line for people
    description: str = ""

    def __post_init__(self) -> None:
        if not JOB_TYPE.fullmatch(self.type):
            raise ContractError(f"job type {self.type!r}: use 'family.action' in lower case, e.g. 'imports.excel'.")
        if not HANDLER.fullmatch(self.handler):
            raise ContractError(f"{self.type}: handler is {self.handler!r}, use 'package.module:function'.")
        declared: object = self.payload
        if not (inspect.isclass(declared) and issubclass(declared, Payload)):
            raise ContractError(f"{self.type}: payload must be a subclass of Payload.")
        if self.payload.model_config.get("extra") != "forbid":
            raise ContractError(f"{self.type}: payload accepts unknown fields, remove its own 'extra' setting.")
        if self.attempts < 1:
            raise ContractError(f"{self.type}: attempts is {self.attempts}, use 1 or more.")
        if self.max_stalls < 0:
            raise ContractError(f"{self.type}: max_stalls is {self.max_stalls}, use 0 or more.")
        if self.timeout_s is not None and self.timeout_s <= 0:
            raise ContractError(f"{self.type}: timeout_s is {self.timeout_s}, use more than 0, or None for no limit.")
        if not PRIORITY_MIN <= self.priority <= PRIORITY_MAX:
            raise ContractError(f"{self.type}: priority is {self.priority}, use {PRIORITY_MIN} to {PRIORITY_MAX}.")
        self._check_stopping()
        self._check_errors()

    @property
    def error_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The permanent and the retryable errors, by name."""
        return (
            tuple(_error_name(error) for error in self.permanent_errors),
            tuple(_error_name(error) for error in self.retryable_errors),
        )

    def _check_stopping(self) -> None:
        isolation: str = self.isolation
        if isolation not in ("thread", "process"):
            raise ContractError(f"{self.type}: isolation is {isolation!r}, use 'thread' or 'process'.")
        if self.memory_limit_mb is not None and isolation != "process":
            raise ContractError(f"{self.type}: memory_limit_mb needs isolation='process': threads share their memory.")
        if self.memory_limit_mb is not None and self.memory_limit_mb < MEMORY_LEAST_MB:
            raise ContractError(
                f"{self.type}: memory_limit_mb is {self.memory_limit_mb}, use {MEMORY_LEAST_MB} or more: a process "
                "takes about that before its handler begins."
            )
        if not 0 < self.stop_grace_s <= STOP_GRACE_MOST_S:
            raise ContractError(
                f"{self.type}: stop_grace_s is {self.stop_grace_s}, use more than 0 and at most {STOP_GRACE_MOST_S}."
            )

    def _check_errors(self) -> None:
        for errors in (self.permanent_errors, self.retryable_errors):
            given: object = errors
            if not isinstance(given, tuple):
                raise ContractError(f"{self.type}: permanent_errors and retryable_errors are tuples, write (Error,).")
            for error in errors:
                kind: object = error
                if not (
                    ERROR_NAME.fullmatch(kind)
                    if isinstance(kind, str)
                    else inspect.isclass(kind) and issubclass(kind, BaseException)
                ):
                    raise ContractError(f"{self.type}: {kind!r} is no error, give a type or 'package.module.Class'.")
        permanent, retryable = self.error_names
        if both := sorted({*permanent} & {*retryable}):
            raise ContractError(f"{self.type}: {both[0]} is both permanent and retryable, remove one.")


def _error_name(error: type[BaseException] | str) -> str:
    if isinstance(error, str):
        return error if "." in error else f"builtins.{error}"
    return f"{error.__module__}.{error.__name__}"
