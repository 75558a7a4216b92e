"""A leased job <-> a Dramatiq message."""

from __future__ import annotations

import time
from typing import Any

from dramatiq import DecodeError, Message, MessageProxy
from dramatiq.encoder import JSONEncoder
from dramatiq.message import get_encoder

from shared.broker.run import Run
from shared.context import JobContext
from shared.engine.engine import Finish, LeasedJob, NewJob
from shared.engine.record import to_json
from shared.errors import CallboardError
from shared.failures import error_fields
from shared.staging import StagedJobs


class JobCall(Message[Any]):
    """A message whose text names the job and not its arguments, which may be secret and do not belong into logs."""

    def __str__(self) -> str:
        return f"{self.actor_name}[{self.message_id}]"


class JobMessage(MessageProxy):
    """A job on its way through a worker.

    Attributes:
        job: the lease.
        context: what its handler is given, for jobs with a contract.
        outcome: how the run ended, once that is decided; it is committed when Dramatiq acknowledges the message.
        followers: jobs that are added with that: enqueued after the run (pipelines, callbacks), or by the handler of a
            job that completed.
        staged: what that handler enqueues while it runs.
        error: what the run raised.
        result: what the handler of a job with a contract returned.
        run: that handler's run, which can be told to stop.
        fetched_at: when this process got the lease, monotonic seconds.
    """

    def __init__(self, message: Message[Any], job: LeasedJob) -> None:
        super().__init__(message)
        # Dramatiq asks for these a dozen times a job, and the proxy's own way to them is slow.
        self.queue_name = message.queue_name
        self.actor_name = message.actor_name
        self.message_id = message.message_id
        self.options = message.options
        self.job = job
        self.context: JobContext | None = None
        self.outcome: Finish | None = None
        self.followers: list[NewJob] = []
        self.staged: StagedJobs | None = None
        self.error: BaseException | None = None
        self.result: Any = None
        self.run: Run | None = None
        self.fetched_at = time.monotonic()


def encode_error(error: BaseException, *, retryable: bool) -> bytes:
    """Describe an error as it is kept with a job, and never fail: a run that cannot be ended would be held for ever."""
    try:
        return to_json(error_fields(error, retryable=retryable))
    except Exception:  # noqa: BLE001 - its text and its fields come from anybody's code
        fields = {"type": type(error).__name__, "message": "The error cannot be told as JSON.", "retryable": retryable}
        if isinstance(error, CallboardError):
            fields["code"] = error.code
        return to_json(fields)


def encode_message(message: Message[Any] | MessageProxy) -> bytes:
    """Give a message's call as a job's body, see :mod:`shared.engine.record`.

    Raises:
        TypeError: when an argument cannot be encoded.
    """
    encoder = get_encoder()
    if type(encoder) is not JSONEncoder:
        return bytes(message.encode())
    call: dict[str, Any] = {"i": message.message_id}
    if message.args:
        call["a"] = message.args
    if message.kwargs:
        call["k"] = message.kwargs
    if message.options:
        call["o"] = message.options
    return encoder.encode(call)


def decode_message(queue: str, job: LeasedJob, *, private: bool) -> Message[Any]:
    """Build the message that a job stands for.

    Args:
        queue: its queue.
        job: the lease.
        private: keep the arguments out of the message's text.

    Raises:
        DecodeError: when the body is none of ours or the encoder's.
    """
    encoder = get_encoder()
    if type(encoder) is not JSONEncoder:
        return Message.decode(job.body)
    call = encoder.decode(job.body)
    kind = JobCall if private else Message
    kwargs, options = call.get("k", {}), call.get("o", {})
    if not isinstance(kwargs, dict) or not isinstance(options, dict):
        # Dramatiq's consumer would stumble over it, and the job be held by nobody who runs it.
        raise DecodeError("not a call", call, None)  # type: ignore[no-untyped-call]
    return kind(
        queue_name=queue,
        actor_name=job.name,
        args=tuple(call.get("a", ())),
        kwargs=kwargs,
        options=options,
        message_id=call.get("i", job.id),
        message_timestamp=job.created_ms,
    )
