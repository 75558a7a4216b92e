"""The same bug has the same fingerprint."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from shared.failures import fingerprint

SOURCE = """
class Refused(Exception):
    pass

def outer(number):
    return inner(number)

def inner(number):
    if number == 0:
        raise Refused(f"at {id(object()):#x}: {number}")
    return {}[number]

def wrapped(number):
    try:
        return inner(number)
    except Refused as error:
        raise RuntimeError("wrapped") from error

def deep(number):
    return deep(number - 1) if number else inner(0)

def elsewhere(number):
    return inner(number)
"""


def load(source: str, folder: Path, name: str = "family.handler") -> ModuleType:
    module = ModuleType(name)
    exec(compile(source, str(folder / "handler.py"), "exec"), module.__dict__)  # noqa: S102 - one bug in several places
    return module


def failing(module: ModuleType, function: str, number: int = 0) -> str:
    with pytest.raises(Exception) as caught:
        getattr(module, function)(number)
    caught.value.__traceback__ = caught.value.__traceback__ and caught.value.__traceback__.tb_next
    return fingerprint(caught.value)


@pytest.fixture
def module(tmp_path: Path) -> ModuleType:
    return load(SOURCE, tmp_path)


def test_it_is_short_hex(module: ModuleType) -> None:
    assert len(failing(module, "outer")) == 16
    int(failing(module, "outer"), 16)


def test_the_same_bug_at_another_line_and_in_another_folder_is_the_same(module: ModuleType, tmp_path: Path) -> None:
    moved = load("\n# a comment\nimport os\n" + SOURCE, tmp_path / "elsewhere")
    assert failing(module, "outer") == failing(moved, "outer")


def test_what_it_says_does_not_matter(module: ModuleType) -> None:
    assert failing(module, "outer", 7) == failing(module, "outer", 8)


@pytest.mark.parametrize(
    ("function", "number"), [("outer", 7), ("elsewhere", 0), ("wrapped", 0)], ids=["type", "place", "cause"]
)
def test_another_bug_is_another(module: ModuleType, function: str, number: int) -> None:
    assert failing(module, "outer") != failing(module, function, number)


def test_another_module_is_another(module: ModuleType, tmp_path: Path) -> None:
    assert failing(module, "outer") != failing(load(SOURCE, tmp_path, "family.other"), "outer")


def test_how_deep_a_recursion_was_does_not_matter(module: ModuleType) -> None:
    assert failing(module, "deep", 3) == failing(module, "deep", 30)


def test_how_the_handler_was_called_does_not_matter(module: ModuleType) -> None:
    by_worker = load("def run(module): return module.outer(0)", Path("/"), "dramatiq.worker")
    with pytest.raises(Exception) as direct:
        module.outer(0)
    with pytest.raises(Exception) as indirect:
        by_worker.run(module)
    for caught in (direct, indirect):
        # the frame of this test
        assert caught.value.__traceback__ is not None
        caught.value.__traceback__ = caught.value.__traceback__.tb_next
    assert fingerprint(direct.value) == fingerprint(indirect.value)


def test_a_circle_of_causes_has_an_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert fingerprint(first)


def test_the_members_of_a_group_count() -> None:
    assert fingerprint(ExceptionGroup("g", [ValueError()])) != fingerprint(ExceptionGroup("g", [TypeError()]))
