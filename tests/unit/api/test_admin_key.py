"""The admin key: made once, kept privately."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.api.auth import AdminKey, load_admin_key
from shared.config import Settings


def settings(folder: Path, **changes: str) -> Settings:
    return Settings(data_dir=folder, **changes)  # type: ignore[arg-type]


def test_a_given_key_is_taken_and_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_admin_key(settings(tmp_path, admin_key="given")) == "given"
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_a_key_is_made_once_and_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "data"
    key = load_admin_key(settings(folder))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count(key) == 1
    assert len(key) > 40
    assert stat.S_IMODE((folder / "admin.key").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["admin.key"]
    assert load_admin_key(settings(folder)) == key
    assert capsys.readouterr() == ("", "")


def test_all_who_start_together_get_the_same_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda _: load_admin_key(settings(tmp_path)), range(64)))
    assert len(keys) == 1
    assert capsys.readouterr().err.count(keys.pop()) == 1


def test_a_file_that_others_may_read_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    path.write_text("mine\n")
    path.chmod(0o644)
    assert load_admin_key(settings(tmp_path)) == "mine"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_empty_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text("\n")
    with pytest.raises(RuntimeError, match="delete it"):
        load_admin_key(settings(tmp_path))


def test_only_the_key_itself_is_known() -> None:
    key = AdminKey("s\u00e9same")
    # as WSGI gives header bytes: latin-1
    assert key.authenticate("s\u00e9same".encode().decode("latin-1")) is not None
    for wrong in ("", "s\u00e9same", "sesame", "s\u00e9same ", "\u20ac"):
        assert key.authenticate(wrong) is None
    assert "same" not in repr(key)
