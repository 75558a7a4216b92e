"""Dates and times as people write them into cells."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from services.workers.families.imports.mistake import Mistake

#: the day that Excel counts from (its serial 60 is 29 February 1900, a day that never was)
_EXCEL_EPOCH = dt.datetime(1899, 12, 30)  # noqa: DTZ001 - a workbook knows no time zones
#: serials from 1954-10-03 to 2119-01-10; a smaller or larger number in a date column, such as the year 2024, is
#: far more likely a mistake than a day
_SERIALS = (20_000, 80_000)

_ISO = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})", re.ASCII)
_DOTTED = re.compile(r"(\d{1,2})\.\s?(\d{1,2})\.\s?(\d{4})", re.ASCII)
_SLASHED = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})", re.ASCII)
_DAY_FIRST = re.compile(r"(\d{1,2})\.?[\s-]+([A-Za-z]{3,9})\.?,?[\s-]+(\d{4})", re.ASCII)
_MONTH_FIRST = re.compile(r"([A-Za-z]{3,9})\.?\s+(\d{1,2}),?\s+(\d{4})", re.ASCII)
_TIME = re.compile(r"(.*?)[T\s]\s*(\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?)\s*([AaPp][Mm])?", re.ASCII)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip


def parse_date(value: Any) -> dt.date:
    """Read a day.

    Raises:
        Mistake: it is none, has a time of day, or could mean two days.
    """
    if isinstance(value, dt.datetime):
        moment = value
    elif isinstance(value, dt.date):
        return value
    elif isinstance(value, str):
        text = value.strip()
        day = _day(text)
        if day is not None:
            return day
        moment = parse_datetime(text, noun="date")
    else:
        moment = _from_serial(value, "date")
    if moment.time() != dt.time():
        raise Mistake("has a time of day, but only the day is kept: remove the time")
    return moment.date()


def parse_datetime(value: Any, *, noun: str = "date and time") -> dt.datetime:
    """Read a moment; one without a time zone stays without.

    Raises:
        Mistake: it is none, or could mean two.
    """
    if isinstance(value, dt.datetime):
        return value
    if isinstance(value, dt.date):
        return dt.datetime.combine(value, dt.time())
    if not isinstance(value, str):
        return _from_serial(value, noun)
    text = value.strip()
    if (day := _day(text)) is not None:
        return dt.datetime.combine(day, dt.time())
    if text[:4].isdecimal():
        try:
            return dt.datetime.fromisoformat(text)
        except ValueError:
            pass  # perhaps 2024/05/01 10:00
    if match := _TIME.fullmatch(text):
        day = _day(match[1].strip().rstrip(","))
        if day is not None:
            return dt.datetime.combine(day, _time(match[2], match[3], noun))
    raise Mistake(f"is not a {noun}: write it as {_EXAMPLES.get(noun, '2024-05-01')}")


_EXAMPLES = {"date": "2024-05-01", "date and time": "2024-05-01 14:30"}


def _day(text: str) -> dt.date | None:
    """Read a day, None when the text is something else."""
    if match := _ISO.fullmatch(text):
        return _date(match[1], match[2], match[3])
    if match := _DOTTED.fullmatch(text):
        return _date(match[3], match[2], match[1])
    if match := _SLASHED.fullmatch(text):
        return _slashed(int(match[1]), int(match[2]), match[3])
    if match := _DAY_FIRST.fullmatch(text):
        return _date(match[3], _month(match[2]), match[1])
    if match := _MONTH_FIRST.fullmatch(text):
        return _date(match[3], _month(match[1]), match[2])
    return None


def _slashed(first: int, second: int, year: str) -> dt.date:
    # 03/04/2024 is the 3rd of April in Paris and the 4th of March in Boston.
    if first <= 12 and second <= 12 and first != second:
        raise Mistake(f"is not clear: day or month may come first; write it as {year}-MM-DD")
    return _date(year, second, first) if first > 12 else _date(year, first, second)


def _month(name: str) -> int:
    lowered = name.lower()
    if lowered in _LONG_MONTHS:
        return _LONG_MONTHS.index(lowered) + 1
    if lowered[:3] in _MONTHS and len(lowered) <= 4:
        return _MONTHS.index(lowered[:3]) + 1
    raise Mistake(f"is not a date: there is no month {name!r}")


def _date(year: str, month: int | str, day: str | int) -> dt.date:
    try:
        return dt.date(int(year), int(month), int(day))
    except ValueError:
        raise Mistake("is not a date: there is no such day") from None


def _time(text: str, half: str | None, noun: str) -> dt.time:
    try:
        time = dt.time.fromisoformat(text.rjust(5, "0") if text.index(":") == 2 else "0" + text)
        if half is None:
            return time
        if not 1 <= time.hour <= 12:
            raise Mistake(f"is not a {noun}: with {half} the hour is 1 to 12")
        return time.replace(hour=time.hour % 12 + (12 if half.lower() == "pm" else 0))
    except ValueError:
        raise Mistake(f"is not a {noun}: there is no such time of day") from None


def _from_serial(value: Any, noun: str) -> dt.datetime:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _SERIALS[0] <= value <= _SERIALS[1]:
        raise Mistake(f"is not a {noun}: write it as {_EXAMPLES.get(noun, '2024-05-01')}")
    moment = _EXCEL_EPOCH + dt.timedelta(days=value)
    # A float of days is exact to about a microsecond; nobody means 13:59:59.999999.
    return (moment + dt.timedelta(microseconds=500_000)).replace(microsecond=0)
