"""``docs/cli.md`` against the command line itself."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from shared.cli.arguments import STATES, build_parser
from shared.cli.failures import ExitCode
from shared.client import FINISHED
from shared.engine.states import FINISHED as ENGINE_FINISHED
from shared.engine.states import State

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/cli.md").read_text()
#: what stands behind a prompt, up to where the shell takes over
COMMANDS = [
    match[1]
    for line in re.findall(r"^\$ (.*)$", TEXT, re.MULTILINE)
    for match in [re.search(r"callboard ([^|>)]*)", line)]
    if match
]


def test_there_are_examples() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_can_be_typed_as_printed(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job.json").write_text('{"dataset": "terms"}')
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "job.json").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        build_parser().parse_args(shlex.split(command))


def test_each_command_and_option_is_described() -> None:
    parser = build_parser()
    subparsers = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    for name, command in subparsers.choices.items():
        assert re.search(rf"callboard {name}\b", TEXT), name
        for action in command._actions:
            for option in action.option_strings:
                if option not in ("-h", "--help"):
                    assert option in TEXT, f"{name} {option}"


def test_each_exit_code_is_described() -> None:
    table = TEXT[TEXT.index("## Exit codes") : TEXT.index("Bad input is one line")]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)] == sorted(
        int(code) for code in ExitCode
    )


def test_states_are_those_of_the_engine() -> None:
    assert set(STATES) == {str(state) for state in State}
    assert {str(state) for state in ENGINE_FINISHED} == FINISHED


@pytest.mark.parametrize("arguments", [["--help"], ["import", "--help"], ["nonsense"]])
def test_help_and_mistakes_are_answered_without_heavy_imports(arguments: list[str]) -> None:
    program = (
        "import sys; from shared.cli import main; main(sys.argv[1:]); "
        "sys.exit(str(found) if (found := {'httpx', 'rich', 'pydantic', 'shared.client'} & set(sys.modules)) else 0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
