"""The Dramatiq consumer of one queue, a thin shape over :class:`Channel`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import cast

from dramatiq import Consumer, MessageProxy
from dramatiq.errors import DecodeError
from structlog.stdlib import get_logger

from shared.broker.channel import Channel
from shared.broker.message import JobMessage, decode_message, encode_error
from shared.engine.engine import Finish, LeasedJob, Outcome
from shared.engine.record import to_json

log = get_logger(__name__)


class JobConsumer(Consumer):
    """See :class:`dramatiq.Consumer`.

    Args:
        channel: the queue.
        timeout_s: longest wait for a message.
        is_private: whether the arguments of an actor of that name are kept out of logs.
        started: told of a message before it is given out.
        ended: told of a message after its end was committed.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        timeout_s: float,
        is_private: Callable[[str], bool],
        started: Callable[[JobMessage], None],
        ended: Callable[[JobMessage], None],
    ) -> None:
        self._channel = channel
        self._timeout_s = timeout_s
        self._is_private = is_private
        self._started = started
        self._ended = ended
        #: fetched, and not given out yet
        self._ready: deque[LeasedJob] = deque()

    def __next__(self) -> JobMessage | None:
        """Give the next message; None when there was none within the timeout."""
        if not self._ready:
            self._ready.extend(self._channel.step(self._timeout_s))
        # One at a time: should one raise, the others stay where close() finds them.
        while self._ready:
            message = self._message(self._ready.popleft())
            if message is not None:
                return message
        return None

    def ack(self, message: MessageProxy) -> None:
        """Commit a run that Dramatiq takes for done."""
        message = cast("JobMessage", message)
        job = message.job
        outcome = message.outcome
        if outcome is None and (message.error or message._exception) is not None:
            # Without Retries, Dramatiq calls a run that raised "done". We call it what it is. It has an exception and
            # no error when an interrupt hit the code that settles it.
            outcome = _failure(message)
        self._commit(message, outcome or Finish(job.id, job.token, Outcome.COMPLETE))

    def nack(self, message: MessageProxy) -> None:
        """Commit a run that Dramatiq gave up."""
        message = cast("JobMessage", message)
        self._commit(message, message.outcome or _failure(message))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Hand messages back that were not started."""
        jobs = [cast("JobMessage", message) for message in messages]
        self._channel.release([message.job for message in jobs])
        for message in jobs:
            self._ended(message)

    def close(self) -> None:
        """Hand back what was fetched but not given out, and commit what no thread waited for."""
        self._channel.flush()
        ready, self._ready = self._ready, deque()
        self._channel.release(ready)

    def _commit(self, message: JobMessage, finish: Finish) -> None:
        if message.followers:
            # With the finish and not before or after it: what they do happens exactly if this run counts.
            finish = replace(finish, followers=tuple(message.followers))
        self._channel.commit(finish)
        self._ended(message)

    def _message(self, job: LeasedJob) -> JobMessage | None:
        queue = self._channel.contract.name
        try:
            message = JobMessage(decode_message(queue, job, private=self._is_private(job.name)), job)
        except (DecodeError, ValueError, AttributeError, TypeError, RecursionError) as error:
            log.error("undecodable_job", job_id=job.id, error=type(error).__name__)  # noqa: TRY400 - it may quote the body
            reason = {"type": "DecodeError", "code": "undecodable", "retryable": False}
            reason["message"] = "The job's body cannot be decoded; was it written with another encoder?"
            self._channel.discard(Finish(job.id, job.token, Outcome.FAIL, data=to_json(reason)))
            return None
        self._started(message)
        return message


def _failure(message: JobMessage) -> Finish:
    error = message.error or message._exception
    if error is not None:
        data = encode_error(error, retryable=False)
    else:
        fields = {"type": "Rejected", "message": "The message was rejected.", "retryable": False}
        trace = message.options.get("traceback")
        if trace:
            fields["traceback"] = trace
        data = to_json(fields)
    return Finish(message.job.id, message.job.token, Outcome.FAIL, data=data)
