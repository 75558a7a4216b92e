from __future__ import annotations

import io
import sys
from argparse import ArgumentTypeError
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from shared.cli import inputs
from shared.cli.failures import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5", 1.5), ("90s", 90), ("250ms", 0.25), ("1h30m", 5400), ("2d", 172_800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert inputs.duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "5x", "-5", "5 m", "nan", "1h-3m", "5m!"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="no length of time"):
        inputs.duration_s(text)


def test_a_time_is_given_in_utc() -> None:
    assert inputs.point_in_time("2026-01-31T18:00+01:00") == "2026-01-31T17:00:00Z"
    own = datetime.fromisoformat("2026-01-31T18:00").astimezone()
    assert datetime.fromisoformat(inputs.point_in_time("2026-01-31T18:00")) == own


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "18:00"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="no time"):
        inputs.point_in_time(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ('"2"', "2"),
        ("terms", "terms"),
        ("[1]", [1]),
        ("null", None),
        ("NaN", "NaN"),
        ("", ""),
        ("[" * 5000, "[" * 5000),
    ],
)
def test_a_value_is_json_or_text(text: str, value: object) -> None:
    assert inputs.json_or_text(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("Terms", "Terms"), ('"2024"', "2024"), ("true", "true"), ("1.5", "1.5")]
)
def test_a_sheet_is_an_index_or_a_name(text: str, value: object) -> None:
    sheet = inputs.sheet(text)
    assert sheet == value
    assert type(sheet) is type(value)


def test_assignments_build_a_payload() -> None:
    settings = [inputs.assignment(text) for text in ("a=1", "b.c=x", "b.d=[2]", "e=f=g", "a=2")]
    assert inputs.merge({"kept": True}, settings) == {"kept": True, "a": 2, "b": {"c": "x", "d": [2]}, "e": "f=g"}


@pytest.mark.parametrize("text", ["", "a", "=1", "a.=1", ".a=1"])
def test_what_is_no_assignment(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="no setting"):
        inputs.assignment(text)


def test_an_assignment_cannot_reach_into_a_number() -> None:
    with pytest.raises(UsageError, match=r"a\.b: a is not an object"):
        inputs.merge({"a": 1}, [inputs.assignment("a.b=2")])


def test_a_mapped_column_may_hold_an_equals_sign() -> None:
    assert inputs.mapping("E=mc2=formula") == ("E=mc2", "formula")
    for text in ("", "a", "=b", "a="):
        with pytest.raises(ArgumentTypeError, match="no mapping"):
            inputs.mapping(text)


def test_a_payload_from_text_file_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A byte order mark is what editors of one large vendor put first.
    (tmp_path / "p.json").write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xa4"}')
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"c": 3}')))
    assert inputs.payload('{"b": 2}') == {"b": 2}
    assert inputs.payload(f"@{tmp_path / 'p.json'}") == {"a": "ä"}
    assert inputs.payload("-") == {"c": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "no object"),
        ('{"a": NaN}', "NaN is no JSON"),
        ("[" * 100_000, "not JSON"),
        ("@/does/not/exist", "No such file"),
        ("@/", "Is a directory"),
    ],
)
def test_what_is_no_payload(text: str, message: str) -> None:
    with pytest.raises(ArgumentTypeError, match=message):
        inputs.payload(text)


def test_a_payload_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"\xff\xfe{")
    with pytest.raises(ArgumentTypeError, match="not text in UTF-8"):
        inputs.payload(f"@{tmp_path / 'p'}")


@pytest.mark.parametrize(("text", "ok"), [("1", True), ("0", False), ("x", False), ("1.5", False), ("", False)])
def test_whole_numbers(text: str, ok: Any) -> None:
    read = inputs.whole(1)
    if ok:
        assert read(text) == int(text)
    else:
        with pytest.raises(ArgumentTypeError, match="1 or more"):
            read(text)
