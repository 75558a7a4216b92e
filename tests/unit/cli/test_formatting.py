from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shared.cli import formatting


def test_strangers_cannot_steer_the_terminal() -> None:
    hostile = "a\x1b[31mred\x1b]0;title\x07 \x9b2J \u202eabc\tkept\nkept"
    shown = formatting.clean(hostile)
    assert not any((ord(c) < 32 and c not in "\t\n") or 0x7F <= ord(c) <= 0x9F or c == "\u202e" for c in shown)
    assert shown.endswith("\tkept\nkept")
    assert "\n" not in formatting.one_line(hostile)


def test_one_line_is_cut() -> None:
    assert formatting.one_line("abcdef", 4) == "abc…"
    assert formatting.one_line("abcd", 4) == "abcd"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.25, "250 ms"),
        (2.54, "2.5 s"),
        (0.9999, "1 s"),
        (42, "42 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (86400 * 2 + 3600 * 4, "2 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (3400, "3.4 kB"), (3.4e6, "3.4 MB"), (2e9, "2.0 GB")]
)
def test_sizes(count: float, text: str) -> None:
    assert formatting.size(count) == text


@pytest.mark.parametrize(
    ("at", "text"),
    [
        ("2026-01-31T11:59:30Z", "30 s ago"),
        ("2026-01-31T12:00:01Z", "1 s ago"),  # the other clock is a little ahead
        ("2026-01-31T11:56:40.500Z", "3 min ago"),
        ("2026-01-31T14:05:00Z", "in 2 h 5 min"),
        (None, ""),
        ("soon", ""),
    ],
)
def test_ages(at: object, text: str) -> None:
    assert formatting.age(at, datetime(2026, 1, 31, 12, tzinfo=UTC)) == text


def test_rows() -> None:
    data = {"rows": 1200, "total": 5000, "rows_per_s": 800.4, "remaining_s": 4.75}
    assert formatting.rows(data) == "1,200 of 5,000 rows · 800 rows/s · 5 s left"
    assert formatting.rows({"rows": 3}) == "3 rows"
    assert formatting.rows({"rows": None, "rows_per_s": "fast"}) == ""
