"""Flows: jobs that run after jobs. A builder for any graph, and the two shapes that are used most.

docs/flows.md shows them in use; :mod:`shared.engine.flows` says what a flow is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

from shared.contracts import Catalogue
from shared.engine.engine import Engine
from shared.engine.flows import FLOW_JOBS, Dependency, FlowJob, NewFlow, OnFailure
from shared.engine.keys import new_job_id, split_job_id
from shared.errors import ValidationFailed
from shared.options import JobOptions, parse_options
from shared.submission import Options, new_job

#: options that a job of a flow cannot have: it is needed by others, whoever holds its key
_NOT_IN_FLOWS = ("dedupe", "idempotency_key")


class SubmittedFlow(NamedTuple):
    """A flow that was added."""

    #: for :meth:`Engine.flow`, :meth:`Engine.cancel_flow` and :meth:`Engine.retry_flow`
    id: str
    #: in the order in which they were put in
    job_ids: tuple[str, ...]


class FlowBuilder:
    """A graph of jobs in the making; nothing is added before :func:`submit_flow`.

    Args:
        catalogue: job types.
        name: of the flow, for people.
    """

    def __init__(self, catalogue: Catalogue, name: str = "") -> None:
        self._catalogue = catalogue
        self._name = name
        self._id: str | None = None
        self._jobs: list[FlowJob] = []

    def add(
        self,
        job_type: str,
        payload: Mapping[str, Any],
        options: Options = None,
        *,
        after: Iterable[str | Dependency] = (),
        on_failure: OnFailure | str = OnFailure.FAIL,
    ) -> str:
        """Put a job in; gives its id, for others to run after.

        Args:
            job_type: name of one of the catalogue.
            payload: its input, checked as in a submission.
            options: as in a submission, but for ``dedupe`` and ``idempotency_key``; delays count from when the job may
                run.
            after: jobs that it waits for, by id; as :class:`Dependency` where these differ in what their failure does.
            on_failure: what the failure, cancellation or removal of one of them does: ``fail`` fails this job as well,
                ``continue`` lets it run, with the error among its ``job.results``.

        Raises:
            UnknownJobType, ValidationFailed
        """
        if len(self._jobs) >= FLOW_JOBS:
            raise ValidationFailed(f"A flow has {FLOW_JOBS:,} jobs at most: let its last job submit another.")
        policy = _policy(on_failure)
        job = new_job(self._catalogue, job_type, payload, _checked(options))
        edges = tuple(edge if isinstance(edge, Dependency) else Dependency(edge, policy) for edge in after)
        self._jobs.append(FlowJob(job, edges))
        return job.id

    def build(self) -> NewFlow:
        """Give the flow as the engine takes it; each call gives the same ids, so that adding it again does nothing.

        Raises:
            ValidationFailed: it has no jobs, or a job runs after one that is not of the flow.
        """
        if self._id is None:
            # The queue of its first job keeps the flow's record.
            self._id = new_job_id(split_job_id(self._jobs[0].job.id)[0]) if self._jobs else ""
        return NewFlow(self._id, tuple(self._jobs), self._name)


class JobChain:
    """Jobs that run one after the other.

    Args:
        catalogue: job types.
        name: of the flow, for people.
    """

    def __init__(self, catalogue: Catalogue, name: str = "") -> None:
        self._flow = FlowBuilder(catalogue, name)
        self._last: tuple[str, ...] = ()

    def then(
        self,
        job_type: str,
        payload: Mapping[str, Any],
        options: Options = None,
        *,
        on_failure: OnFailure | str = OnFailure.FAIL,
    ) -> Self:
        """Append a job; it finds the result of the one before among its ``job.results``. See :meth:`FlowBuilder.add`.

        Raises:
            UnknownJobType, ValidationFailed
        """
        self._last = (self._flow.add(job_type, payload, options, after=self._last, on_failure=on_failure),)
        return self

    def build(self) -> NewFlow:
        """See :meth:`FlowBuilder.build`."""
        return self._flow.build()


class JobBatch:
    """Jobs that run side by side, and others that run when all of these have ended.

    Args:
        catalogue: job types.
        name: of the flow, for people.
    """

    def __init__(self, catalogue: Catalogue, name: str = "") -> None:
        self._flow = FlowBuilder(catalogue, name)
        self._members: list[str] = []
        self._closed = False

    def add(self, job_type: str, payload: Mapping[str, Any], options: Options = None) -> Self:
        """Put a member in. See :meth:`FlowBuilder.add`.

        Raises:
            UnknownJobType, ValidationFailed: also when a callback was named before, which would not wait for it.
        """
        if self._closed:
            raise ValidationFailed("Put all members into the batch before its callbacks.")
        self._members.append(self._flow.add(job_type, payload, options))
        return self

    def on_completion(self, job_type: str, payload: Mapping[str, Any], options: Options = None) -> Self:
        """Run a job when every member has ended, however; ``job.results`` tells it how.

        Raises:
            UnknownJobType, ValidationFailed
        """
        return self._after_all(job_type, payload, options, OnFailure.CONTINUE)

    def on_success(self, job_type: str, payload: Mapping[str, Any], options: Options = None) -> Self:
        """Run a job when every member has completed; it fails as soon as one of them does.

        Raises:
            UnknownJobType, ValidationFailed
        """
        return self._after_all(job_type, payload, options, OnFailure.FAIL)

    def build(self) -> NewFlow:
        """See :meth:`FlowBuilder.build`."""
        return self._flow.build()

    def _after_all(self, job_type: str, payload: Mapping[str, Any], options: Options, on_failure: OnFailure) -> Self:
        if not self._members:
            raise ValidationFailed("The batch has no members yet: its callback would run at once.")
        self._closed = True
        self._flow.add(job_type, payload, options, after=self._members, on_failure=on_failure)
        return self


def submit_flow(engine: Engine, flow: FlowBuilder | JobChain | JobBatch) -> SubmittedFlow:
    """Add a flow, all of it or nothing. Repeating the call with the same flow adds nothing more.

    A queue's ``max_length`` does not refuse the jobs of a flow.

    Raises:
        ValidationFailed: see :meth:`FlowBuilder.build`.
        EngineUnavailable: also as EngineOverloaded, when the server is nearly out of memory.
    """
    made = flow.build()
    engine.add_flow(made)
    return SubmittedFlow(made.id, tuple(node.job.id for node in made.jobs))


def _checked(options: Options) -> JobOptions:
    chosen = options if isinstance(options, JobOptions) else parse_options(options)
    errors = [
        {"field": f"options.{name}", "message": "not for a job of a flow: others wait for this very job"}
        for name in _NOT_IN_FLOWS
        if getattr(chosen, name) is not None
    ]
    if errors:
        named = "; ".join(f"{error['field']}: {error['message']}" for error in errors)
        raise ValidationFailed(f"The options are not valid: {named}.", errors=errors)
    return chosen


def _policy(name: OnFailure | str) -> OnFailure:
    try:
        return OnFailure(name)
    except ValueError:
        known = ", ".join(policy.value for policy in OnFailure)
        raise ValidationFailed(f"on_failure is {name!r}: use {known}.") from None
