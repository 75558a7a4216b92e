"""Converters: what cells hold becomes what columns hold, or a reason in plain words."""

# ruff: noqa: DTZ001 - cells of a workbook have no time zone

import datetime as dt
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.workers.families.imports.conversion import converter_for
from services.workers.families.imports.mistake import Mistake
from shared.database.datasets import Column, ColumnType

T = ColumnType
UTC = dt.UTC


def one(kind, value, dialect="postgresql", **fields):
    return converter_for(Column("a", kind, **fields), dialect).one(value)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (T.TEXT, "  a b ", "a b"),
        (T.TEXT, 2024.0, "2024"),
        (T.TEXT, 2.5, "2.5"),
        (T.TEXT, True, "TRUE"),
        (T.TEXT, dt.date(2024, 5, 1), "2024-05-01"),
        (T.TEXT, dt.datetime(2024, 5, 1), "2024-05-01"),
        (T.TEXT, dt.datetime(2024, 5, 1, 12, 30), "2024-05-01 12:30:00"),
        (T.TEXT, dt.time(12, 30), "12:30:00"),
        (T.TEXT, "   ", None),
        (T.INTEGER, 5.0, 5),
        (T.INTEGER, "5", 5),
        (T.INTEGER, " -5 ", -5),
        (T.INTEGER, "5.0", 5),
        (T.INTEGER, "1,234", 1234),
        (T.INTEGER, "1e3", 1000),
        (T.INTEGER, str(2**63 - 1), 2**63 - 1),
        (T.INTEGER, 2**63 - 1, 2**63 - 1),
        (T.INTEGER, "", None),
        (T.NUMBER, 5, 5.0),
        (T.NUMBER, "12.5%", 0.125),
        (T.NUMBER, "12.5 %", 0.125),
        (T.NUMBER, "1,234.5", 1234.5),
        (T.NUMBER, "1,234,567", 1234567.0),
        (T.NUMBER, "-.5e2", -50.0),
        (T.BOOLEAN, "Yes", True),
        (T.BOOLEAN, "no", False),
        (T.BOOLEAN, 1.0, True),
        (T.BOOLEAN, 0, False),
        (T.BOOLEAN, "FALSE", False),
        (T.DATE, dt.date(2024, 5, 1), dt.date(2024, 5, 1)),
        (T.DATE, dt.datetime(2024, 5, 1), dt.date(2024, 5, 1)),
        (T.DATE, 45413.0, dt.date(2024, 5, 1)),
        (T.DATE, "2024-05-01", dt.date(2024, 5, 1)),
        (T.DATE, "2024/5/1", dt.date(2024, 5, 1)),
        (T.DATE, "1.5.2024", dt.date(2024, 5, 1)),
        (T.DATE, "31/05/2024", dt.date(2024, 5, 31)),
        (T.DATE, "05/31/2024", dt.date(2024, 5, 31)),
        (T.DATE, "05/05/2024", dt.date(2024, 5, 5)),
        (T.DATE, "1 May 2024", dt.date(2024, 5, 1)),
        (T.DATE, "May 1, 2024", dt.date(2024, 5, 1)),
        (T.DATE, "2024-05-01 00:00:00", dt.date(2024, 5, 1)),
        (T.DATETIME, "2024-05-01", dt.datetime(2024, 5, 1, tzinfo=UTC)),
        (T.DATETIME, "2024-05-01T12:30:00+02:00", dt.datetime(2024, 5, 1, 10, 30, tzinfo=UTC)),
        (T.DATETIME, "2024-05-01T12:30:00Z", dt.datetime(2024, 5, 1, 12, 30, tzinfo=UTC)),
        (T.DATETIME, "1.5.2024 14:30", dt.datetime(2024, 5, 1, 14, 30, tzinfo=UTC)),
        (T.DATETIME, "May 1, 2024 2:30 PM", dt.datetime(2024, 5, 1, 14, 30, tzinfo=UTC)),
        (T.DATETIME, 45413.604166666664, dt.datetime(2024, 5, 1, 14, 30, tzinfo=UTC)),
        (T.DATETIME, dt.datetime(2024, 5, 1, 14, 30), dt.datetime(2024, 5, 1, 14, 30, tzinfo=UTC)),
        (T.JSON, '{"a": [1, null]}', '{"a": [1, null]}'),
        (T.JSON, {"a": "ü"}, '{"a": "ü"}'),
        (T.JSON, 5.0, "5.0"),
    ],
)
def test_what_cells_hold(kind, value, expected):
    result = one(kind, value)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (T.INTEGER, "12 apples", "is not a whole number"),
        (T.INTEGER, 2.5, "has decimals"),
        (T.INTEGER, True, "is yes or no"),
        (T.INTEGER, "50%", "has decimals"),
        (T.INTEGER, 1e300, "too large"),
        (T.INTEGER, 10**400, "too large"),
        (T.INTEGER, "9" * 5000, "whole number"),
        (T.INTEGER, "+-5", "is not a whole number"),
        (T.INTEGER, dt.date(2024, 1, 1), "is a date or time"),
        (T.NUMBER, "1,5", "comma may part thousands or decimals"),
        (T.NUMBER, "1,234", "comma may part thousands or decimals"),
        (T.NUMBER, "nan", "is not a number"),
        (T.NUMBER, math.inf, "is not a number"),
        (T.NUMBER, "1_000", "is not a number"),
        (T.NUMBER, "٣", "is not a number"),
        (T.BOOLEAN, "maybe", "neither yes nor no"),
        (T.BOOLEAN, 2, "neither yes nor no"),
        (T.DATE, "03/04/2024", "day or month may come first"),
        (T.DATE, "2024-02-30", "there is no such day"),
        (T.DATE, "31 Smarch 2024", "no month 'Smarch'"),
        (T.DATE, 2024, "is not a date"),
        (T.DATE, True, "is not a date"),
        (T.DATE, dt.datetime(2024, 5, 1, 8), "has a time of day"),
        (T.DATE, "soon", "write it as 2024-05-01"),
        (T.DATETIME, "2024-05-01 25:00", "no such time of day"),
        (T.DATETIME, "0001-01-01T00:00:00+10:00", "years 1 to 9999"),
        (T.JSON, "a; b", "is not JSON"),
        (T.JSON, "NaN", "is not JSON"),
        (T.JSON, '"\\u0000"', "cannot keep"),
        (T.TEXT, "a\x00b", "cannot keep"),
        (T.TEXT, "\ud800", "cannot keep"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(kind, value, reason):
    with pytest.raises(Mistake, match=reason):
        one(kind, value)


def test_limits():
    with pytest.raises(Mistake, match="has 6 characters, at most 5"):
        one(T.TEXT, "abcdef", max_length=5)
    with pytest.raises(Mistake, match="is below 0"):
        one(T.INTEGER, -1, minimum=0)
    with pytest.raises(Mistake, match="is above 1,000"):
        one(T.NUMBER, "1000.5", maximum=1000)
    with pytest.raises(Mistake, match="allowed values: small, large"):
        one(T.TEXT, "huge", choices=("small", "large"))
    assert one(T.TEXT, "SMALL", choices=("small", "large")) == "small"
    with pytest.raises(Mistake, match="is empty, but must have a value"):
        one(T.TEXT, " ", nullable=False)


def test_sqlite_takes_dates_as_sqlalchemy_writes_them():
    assert one(T.DATE, dt.date(2024, 5, 1), "sqlite") == "2024-05-01"
    assert one(T.DATETIME, "2024-05-01T12:30:00+02:00", "sqlite") == "2024-05-01 10:30:00.000000"


CELLS = st.one_of(
    st.none(),
    st.text(max_size=12),
    st.sampled_from(["", "yes", "1,234", "12%", "2024-05-01", "03/04/2024", "nan", "1e400", "-0", "٣", "1_0", "\x00"]),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.timedeltas(),
    st.integers(-(10**6), 10**6).map(str),
    st.floats(-1e6, 1e6).map(str),
)
COLUMNS = st.one_of(
    st.builds(Column, st.just("a"), st.sampled_from(list(T)), st.booleans()),
    st.builds(Column, st.just("a"), st.just(T.TEXT), st.booleans(), st.integers(1, 8)),
    st.builds(
        lambda kind, low: Column("a", kind, minimum=low, maximum=low + 100),
        st.sampled_from([T.INTEGER, T.NUMBER]),
        st.integers(-50, 50),
    ),
)
# Columns are mostly of one kind, and the quick ways are taken only then.
BATCHES = st.one_of(
    st.lists(CELLS, max_size=6),
    *(st.lists(st.one_of(kind, st.just("")), max_size=6) for kind in (
        st.text(max_size=9), st.integers(), st.floats(), st.booleans(), st.dates(), st.datetimes(),
        st.integers(-200, 200).map(str), st.floats(-200, 200), st.floats(-9e5, 9e5).map(str), st.integers(-200, 200),
        st.integers(-200, 200).map(float),
    )),
)  # fmt: skip


@given(COLUMNS, BATCHES, st.sampled_from(["sqlite", "postgresql"]))
def test_the_quick_way_and_the_careful_way_agree(column, values, dialect):
    converter = converter_for(column, dialect)
    converted, wrong = converter.convert(values)
    assert len(converted) == len(values)
    for index, value in enumerate(values):
        try:
            expected, reason = converter.one(value), None
        except Mistake as mistake:
            expected, reason = None, str(mistake)
        assert wrong.get(index) == reason
        assert converted[index] == expected
        assert type(converted[index]) is type(expected)


@given(COLUMNS, CELLS)
def test_what_comes_out_can_be_stored(column, value):
    try:
        result = converter_for(column, "postgresql").one(value)
    except Mistake:
        return
    if result is None:
        assert column.nullable
        return
    match column.type:
        case T.TEXT | T.JSON:
            assert "\x00" not in result
            result.encode()
            if column.type is T.JSON:
                json.loads(result)
            elif column.max_length is not None:
                assert 0 < len(result) <= column.max_length
        case T.INTEGER:
            assert type(result) is int
            assert -(2**63) <= result < 2**63
        case T.NUMBER:
            assert type(result) is float
            assert math.isfinite(result)
    if column.minimum is not None and column.maximum is not None:
        assert column.minimum <= result <= column.maximum


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_survive_in_every_spelling(number):
    for spelling in (number, str(number), f"{number:,}", f" {number} "):
        assert one(T.INTEGER, spelling) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_in_every_spelling(number):
    for spelling in (number, repr(number), f" {number!r} "):
        assert one(T.NUMBER, spelling) == number


@given(st.dates(min_value=dt.date(1000, 1, 1)))
def test_days_survive_in_every_clear_spelling(day):
    spellings = (
        day,
        day.isoformat(),
        f"{day.day}.{day.month}.{day.year}",
        day.strftime("%d %B %Y"),
        day.strftime("%b %d, %Y"),
        dt.datetime.combine(day, dt.time()),
    )
    for spelling in spellings:
        assert one(T.DATE, spelling) == day
