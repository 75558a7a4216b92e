"""What users test their own programs with; the examples of the documentation among them."""

from __future__ import annotations

import re
import sys
import types
from datetime import timedelta
from pathlib import Path

import pytest

from shared.engine.states import State
from shared.errors import ValidationFailed
from shared.testing import QueueInTest, assert_enqueued, callboard_testing, catalogue_of, run_job
from tests.unit.inline import program

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "testing.md"


def load_guide() -> types.ModuleType:
    """The examples as the module that they say they are."""
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL))
    module = types.ModuleType("billing")
    exec(compile(code, str(GUIDE), "exec"), module.__dict__)  # noqa: S102 - it is our own text
    return module


EXAMPLES = sorted(name for name in vars(load_guide()) if name.startswith("test_"))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_the_documentation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_guide()
    monkeypatch.setitem(sys.modules, "billing", module)
    getattr(module, name)()


def test_nothing_runs_unless_it_is_said() -> None:
    with callboard_testing(program.CATALOGUE) as queue:
        first = queue.submit("notes.plain", {"text": "a"})
        queue.submit("notes.plain", {"text": "b"})
        assert program.RAN == []
        job = queue.run_next("notes")
        assert job is not None
        assert (job.id, job.state, program.RAN) == (first.id, State.COMPLETED, ["a"])
        assert [job.result["text"] for job in queue.run_all()] == ["b"]
        assert queue.run_next("notes") is None
        assert queue.run_all() == []


def test_what_jobs_enqueue_runs_too() -> None:
    with callboard_testing(program.CATALOGUE) as queue:
        program.HOOKS.append(
            lambda payload, job: payload.number and queue.submit("notes.single", {"number": payload.number - 1})
        )
        queue.submit("notes.plain", {"number": 2})
        assert len(queue.run_all()) == 3


def test_backoffs_pass_with_the_clock() -> None:
    with callboard_testing(program.CATALOGUE) as queue:
        job = queue.submit("notes.flaky", {"number": 1})
        queue.run_all()
        assert queue.get(job.id).state is State.DELAYED
        queue.advance(timedelta(minutes=59))
        assert queue.run_all() == []
        queue.advance(timedelta(minutes=2))
        assert [ran.state for ran in queue.run_all()] == [State.COMPLETED]


def enqueued() -> QueueInTest:
    queue = QueueInTest(program.CATALOGUE)
    for number in (1, 2, 2):
        queue.submit("notes.plain", {"text": "x", "number": number})
    queue.submit("notes.single", {"number": 2}, delay_s=60)
    return queue


@pytest.mark.parametrize(
    ("expected", "count"),
    [
        ({}, 4),
        ({"type": "notes.plain"}, 3),
        ({"payload": {"number": 2}}, 3),
        ({"type": "notes.plain", "payload": {"number": 2, "text": "x"}}, 2),
        ({"queue": "single"}, 1),
        ({"type": "notes.broken"}, 0),
        ({"payload": {"number": 2, "other": None}}, 0),
        ({"queue": "notes", "type": "notes.single"}, 0),
    ],
)
def test_looking_for_what_is_enqueued(expected: dict[str, object], count: int) -> None:
    queue = enqueued()
    assert len(queue.assert_enqueued(**expected, count=count)) == count
    with pytest.raises(AssertionError, match=f"{count} jobs of .*expected {count + 1}"):
        queue.assert_enqueued(**expected, count=count + 1)
    if count:
        assert len(queue.assert_enqueued(**expected)) == count
    else:
        with pytest.raises(AssertionError, match="expected some"):
            queue.assert_enqueued(**expected)


def test_a_failure_lists_what_is_there() -> None:
    queue = enqueued()
    with pytest.raises(AssertionError) as caught:
        assert_enqueued(queue.engine, type="notes.broken")
    assert str(caught.value).count("notes.plain waiting") == 3
    assert "notes.single delayed {'number': 2}" in str(caught.value)


def test_jobs_that_ran_are_not_enqueued() -> None:
    queue = enqueued()
    queue.run_all()
    queue.assert_enqueued(count=1)


def test_a_job_that_is_not_there() -> None:
    with pytest.raises(AssertionError, match="There is no job"):
        QueueInTest(program.CATALOGUE).get("notes.01ARZ3NDEKTSV4RRFFQ69G5FAV")


def test_running_one_job() -> None:
    job = run_job(program.PLAIN, {"text": "a"}, owner="u1", delay_s=60)
    assert (job.state, job.options, job.result) == (State.COMPLETED, {"owner": "u1"}, {"text": "a", "attempt": 1})
    for payload, options in (({"text": 1}, {}), ({}, {"attempts": 0})):
        with pytest.raises(ValidationFailed):
            run_job(program.PLAIN, payload, **options)


def test_a_catalogue_of_types_that_share_a_queue() -> None:
    catalogue = catalogue_of(program.PLAIN, program.contract("awaited"), program.contract("broken", queue="other"))
    assert (sorted(catalogue.queues), len(catalogue.jobs)) == (["notes", "other"], 3)
