"""Flows and what jobs leave behind, without a server; the examples of the documentation among them."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from shared.engine.flows import FLOW_JOBS
from shared.engine.memory import MemoryEngine
from shared.engine.states import State
from shared.errors import UnknownJobType, ValidationFailed
from shared.flows import FlowBuilder, JobBatch, JobChain, submit_flow
from shared.inline import InlineEngine
from shared.submission import submit
from shared.testing import callboard_testing
from tests.unit.inline import program

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "flows.md"


def load_guide() -> types.ModuleType:
    """The examples as the module that they say they are."""
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL))
    module = types.ModuleType("pages")
    sys.modules["pages"] = module
    try:
        exec(compile(code, str(GUIDE), "exec"), module.__dict__)  # noqa: S102 - it is our own text
    finally:
        del sys.modules["pages"]
    return module


EXAMPLES = sorted(name for name in vars(load_guide()) if name.startswith("test_"))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_the_documentation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_guide()
    monkeypatch.setitem(sys.modules, "pages", module)
    getattr(module, name)()


def test_a_flow_has_run_when_it_was_submitted(engine: InlineEngine) -> None:
    read: list[Any] = []
    program.HOOKS.append(lambda _payload, job: read.append([end.result for end in job.results.values()]))
    chain = JobChain(program.CATALOGUE).then("notes.awaited", {"text": "a"}).then("notes.plain", {"text": "b"})
    flow = submit_flow(engine, chain)
    record = engine.flow(flow.id)
    assert record is not None
    assert (record.state, read) == ("completed", [["A"]])


def test_what_a_job_enqueues_has_run_when_its_submission_comes_back(engine: InlineEngine) -> None:
    left: list[str] = []

    def enqueue(payload: Any, job: Any) -> None:
        if payload.number:
            left.append(job.enqueue("notes.single", {"number": payload.number - 1}))

    program.HOOKS.append(enqueue)
    submit(engine, program.CATALOGUE, "notes.plain", {"number": 2})
    jobs = [engine.get(job_id) for job_id in left]
    assert [job.state for job in jobs if job] == [State.COMPLETED, State.COMPLETED]


def test_a_job_that_fails_leaves_nothing_in_memory_either() -> None:
    with callboard_testing(program.CATALOGUE) as queue:

        def enqueue_and_fail(payload: Any, job: Any) -> None:
            job.enqueue("notes.single", {})
            raise ValueError("after that")

        program.HOOKS.append(enqueue_and_fail)
        queue.submit("notes.plain", {}, attempts=1)
        queue.run_all()
        queue.assert_enqueued(count=0)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"dedupe": {"key": "k"}}, "options.dedupe"),
        ({"idempotency_key": "k"}, "options.idempotency_key"),
        ({"attempts": 0}, "options.attempts"),
    ],
)
def test_options_that_no_job_of_a_flow_can_have(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        FlowBuilder(program.CATALOGUE).add("notes.plain", {}, options)
    assert [error["field"] for error in caught.value.errors] == [field]


def test_a_flow_that_does_not_fit_is_refused() -> None:
    build = FlowBuilder(program.CATALOGUE)
    with pytest.raises(UnknownJobType):
        build.add("notes.unheard_of", {})
    with pytest.raises(ValidationFailed):
        build.add("notes.plain", {"number": "many"})
    with pytest.raises(ValidationFailed, match="use fail, continue"):
        build.add("notes.plain", {}, on_failure="ignore")
    for empty in (build, JobChain(program.CATALOGUE), JobBatch(program.CATALOGUE)):
        with pytest.raises(ValidationFailed, match="0 jobs"):
            submit_flow(MemoryEngine(), empty)
    build.add("notes.plain", {}, after=["notes.01ARZ3NDEKTSV4RRFFQ69G5FAV"])
    with pytest.raises(ValidationFailed, match="not of the flow"):
        build.build()


def test_callbacks_come_after_the_members() -> None:
    batch = JobBatch(program.CATALOGUE)
    with pytest.raises(ValidationFailed, match="no members"):
        batch.on_completion("notes.plain", {})
    batch.add("notes.plain", {}).on_success("notes.plain", {})
    with pytest.raises(ValidationFailed, match="before its callbacks"):
        batch.add("notes.plain", {})


def test_a_flow_has_an_end() -> None:
    build = FlowBuilder(program.CATALOGUE)
    for _ in range(FLOW_JOBS):
        build.add("notes.plain", {})
    with pytest.raises(ValidationFailed, match="at most"):
        build.add("notes.plain", {})
