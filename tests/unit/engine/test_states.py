"""The table of states, and the document that shows it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.contracts import Retention
from shared.engine.engine import FinishStatus
from shared.engine.states import FINISHED, TRANSITIONS, State

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "job-lifecycle.md").read_text("utf-8")


def named(name: str) -> State | None:
    return None if name == "[*]" else State(name)


def test_the_diagram_shows_the_changes_that_there_are() -> None:
    (diagram,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", DOCUMENT, re.DOTALL)
    lines = diagram.strip().splitlines()
    arrows = [re.fullmatch(r"(\S+) --> (\S+): \S.*", line.strip()) for line in lines]
    assert all(arrows), "each line is 'state --> state: what makes the change'"
    shown = [(named(arrow[1]), named(arrow[2])) for arrow in arrows if arrow]
    assert len(shown) == len(set(shown))
    assert set(shown) == {(before, after) for before, many in TRANSITIONS.items() for after in many}


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS) == {None, *State}
    reached: set[State | None] = {None}
    while more := {after for before in reached for after in TRANSITIONS[before]} - reached:
        reached |= more
    assert reached == {None, *State}
    assert all(TRANSITIONS.values())


@pytest.mark.parametrize("state", list(State))
def test_finished_jobs_change_only_when_somebody_asks(state: State) -> None:
    assert state.finished == (state in FINISHED)
    if state.finished:
        assert TRANSITIONS[state] <= {State.WAITING, State.BLOCKED, None}


def test_the_document_names_every_answer_to_a_finish() -> None:
    assert set(re.findall(r"^\| `([A-Z]+)` \|", DOCUMENT, re.MULTILINE)) == {status.name for status in FinishStatus}


def test_the_document_gives_the_retention_that_there_is() -> None:
    default = Retention()
    assert f"| {default.completed_age_s // 3600} hours | {default.completed_count:,} |" in DOCUMENT
    assert f"| {default.failed_age_s // 86400} days | {default.failed_count:,} of each |" in DOCUMENT


def test_the_document_tells_every_event_that_a_script_writes() -> None:
    lua = Path(__file__).resolve().parents[3] / "shared" / "engine" / "lua"
    written = {name for path in lua.rglob("*.lua") for name in re.findall(r"\bemit\('(\w+)'", path.read_text("utf-8"))}
    (table,) = re.findall(r"^\| event \|.*?\n\n", DOCUMENT, re.MULTILINE | re.DOTALL)
    told = {name for line in table.strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert told == written
