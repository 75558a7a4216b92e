"""Numbers as people write them into cells."""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Any

from services.workers.families.imports.mistake import Mistake

#: 1,234 or 12,345,678: commas between groups of three digits
_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
#: the same with decimals, which makes the commas unambiguous
_GROUPED_DECIMAL = re.compile(r"[+-]?\d{1,3}(,\d{3})+\.\d+")
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_DATES = (dt.date, dt.time, dt.timedelta)
#: no integer of a 64-bit column has more digits; parsing a longer one would only cost time
_MOST_DIGITS = 40


def parse_integer(value: Any) -> int:
    """Read a whole number.

    Raises:
        Mistake: it is none.
    """
    if isinstance(value, str):
        text = value.replace(",", "") if _GROUPED.fullmatch(value) else value
        if text.lstrip("+-").isdecimal() and len(text) <= _MOST_DIGITS and text.isascii():
            try:
                return int(text)
            except ValueError:  # "+-5"
                raise Mistake("is not a whole number") from None
    number = parse_number(value, noun="whole number")
    if not number.is_integer():
        raise Mistake("is not a whole number: it has decimals")
    # Above 2**53 a float has lost digits already, e.g. of a long id that Excel keeps as a number.
    return value if isinstance(value, int) else int(number)


def parse_number(value: Any, *, noun: str = "number") -> float:
    """Read a number; ``12.5%`` is 0.125.

    Raises:
        Mistake: it is none, or could mean two.
    """
    if isinstance(value, bool):
        raise Mistake(f"is yes or no, not a {noun}")
    if isinstance(value, (int, float)):
        try:
            number = float(value)
        except OverflowError:
            raise Mistake("is too large") from None
    elif isinstance(value, str):
        number = _parse_text(value.strip(), noun)
    elif isinstance(value, _DATES):
        raise Mistake(f"is a date or time, not a {noun}")
    else:
        raise Mistake(f"is not a {noun}")
    if not math.isfinite(number):
        raise Mistake(f"is not a {noun}")
    return number


def _parse_text(text: str, noun: str) -> float:
    share = text.endswith("%")
    plain = text[:-1].rstrip() if share else text
    if _GROUPED_DECIMAL.fullmatch(plain) or (plain.count(",") > 1 and _GROUPED.fullmatch(plain)):
        plain = plain.replace(",", "")
    elif "," in plain and plain.replace(",", "").replace(".", "").lstrip("+-").isdecimal():
        raise Mistake(f"is not clear: the comma may part thousands or decimals; write the {noun} with a point or plain")
    if not _PLAIN.fullmatch(plain):
        raise Mistake(f"is not a {noun}")
    # 12.5 / 100 is rounded once; 12.5 * 0.01 twice.
    return float(plain) / 100 if share else float(plain)
