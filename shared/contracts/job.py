"""What a job type promises."""

from __future__ import annotations

import builtins
import inspect
import re
from dataclasses import dataclass, field

from shared.contracts.backoff import Backoff, ExponentialBackoff
from shared.contracts.payload import Payload
from shared.contracts.priority import PRIORITY_MAX, PRIORITY_MIN, Priority
from shared.errors import ContractError

#: ``family.action``, lower case
JOB_TYPE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
#: ``package.module:function``
HANDLER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


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
