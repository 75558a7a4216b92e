"""Numbers, times and texts of strangers, made fit to print."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

#: control characters: a job's message must not move the cursor or recolour the terminal of whoever reads it
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(value: object) -> str:
    """Give a text that holds no control characters; line ends and tabs stay."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value))


def one_line(value: object, longest: int | None = None) -> str:
    """Give a text without control characters and line ends, cut to a length if one is given."""
    text = " ".join(clean(value).split())
    return text if longest is None or len(text) <= longest else f"{text[: longest - 1]}…"


def number(value: float) -> str:
    """Write a number: ``12,345``."""
    return f"{round(value):,}"


def size(count: float) -> str:
    """Write a number of bytes: ``3.4 MB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def duration(seconds: float) -> str:
    """Write a length of time in its two largest units: ``2.5 s``, ``3 min 20 s``, ``2 d 4 h``."""
    if round(seconds, 3) < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    if round(seconds) < 60:
        return f"{round(seconds, 1):g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def moment(value: object) -> datetime | None:
    """Read a time as the API writes it; None when there is none."""
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def age(value: object, now: datetime | None = None) -> str:
    """Write how long ago, or how far off, a time of the API is."""
    at = moment(value)
    if at is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    # Two machines' clocks are never quite the same: what has just happened is not in the future.
    if seconds > -2:
        return f"{_coarse(max(0.0, seconds))} ago"
    return f"in {_coarse(-seconds)}"


def local(value: object) -> str:
    """Write a time of the API on this machine's clock, to the second."""
    at = moment(value)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""


def elapsed_s(start: object, end: object) -> float | None:
    """Give the seconds between two times of the API."""
    first, last = moment(start), moment(end)
    return (last - first).total_seconds() if first and last else None


def rows(data: dict[str, Any]) -> str:
    """Write what a job reports about its rows: ``1,200 of 5,000 rows · 800 rows/s · 5 s left``."""
    parts = []
    done, total = data.get("rows"), data.get("total")
    if isinstance(done, int | float):
        of = f" of {number(total)}" if isinstance(total, int | float) else ""
        parts.append(f"{number(done)}{of} rows")
    if isinstance(rate := data.get("rows_per_s"), int | float):
        parts.append(f"{number(rate)} rows/s")
    if isinstance(left := data.get("remaining_s"), int | float) and left > 0:
        parts.append(f"{duration(max(1, round(left)))} left")
    return " · ".join(parts)


def _coarse(seconds: float) -> str:
    text = duration(max(1, round(seconds)))
    # Nobody wants the seconds of what was minutes ago.
    return re.sub(r"( min) \d+ s$", r"\1", text)
