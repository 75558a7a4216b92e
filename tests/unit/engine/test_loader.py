"""Scripts and their includes."""

from __future__ import annotations

import re
from hashlib import sha1
from pathlib import Path

import pytest

from shared.engine import loader

LUA = Path(loader.__file__).parent / "lua"
SCRIPTS = sorted(path.stem for path in LUA.glob("*.lua"))


def source_of(name: str) -> str:
    return (LUA / f"{name}.lua").read_text("utf-8")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_its_includes_once(name: str) -> None:
    script = loader.load_script(name)
    assert script.name == name
    assert "include:" not in script.source
    assert script.source.count("local P = string.sub(KEYS[1]") == ("-- include: " in source_of(name))
    functions = re.findall(r"^local function (\w+)", script.source, re.MULTILINE)
    assert len(functions) == len(set(functions))
    assert script.sha == sha1(script.source.encode()).hexdigest()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_takes_and_gives(name: str) -> None:
    head = source_of(name).partition("\n\n")[0]
    assert re.match(r"-- [A-Z].*\.\n--\n-- KEYS\[1\]  meta\n(-- ARGV     |-- Returns  )", head), head
    assert "-- Returns  " in head


def test_a_script_of_no_name() -> None:
    with pytest.raises(FileNotFoundError):
        loader.load_script("nothing")


@pytest.fixture
def lua(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of scripts of the test's own."""
    (tmp_path / "lua" / "lib").mkdir(parents=True)
    monkeypatch.setattr(loader, "files", lambda _package: tmp_path)
    return tmp_path / "lua"


def load(name: str) -> str:
    return loader.load_script.__wrapped__(name).source


def test_an_include_that_is_not_there(lua: Path) -> None:
    (lua / "a.lua").write_text("-- include: lib/nothing.lua\nreturn 1\n")
    with pytest.raises(FileNotFoundError, match=r"nothing\.lua"):
        load("a")


def test_includes_of_includes_come_once_and_first(lua: Path) -> None:
    (lua / "a.lua").write_text("-- A comment.\n-- include: lib/x.lua\n-- include: lib/y.lua\nreturn x + y -- both\n")
    (lua / "lib" / "x.lua").write_text("-- include: lib/y.lua\nlocal x = y\n")
    (lua / "lib" / "y.lua").write_text("  -- indented comment\nlocal y = 1\n")
    assert load("a") == "local y = 1\nlocal x = y\nreturn x + y -- both\n"


def test_files_that_include_each_other_end(lua: Path) -> None:
    (lua / "a.lua").write_text("-- include: lib/x.lua\nreturn x\n")
    (lua / "lib" / "x.lua").write_text("-- include: lib/x.lua\nlocal x = 1\n")
    assert load("a") == "local x = 1\nreturn x\n"
