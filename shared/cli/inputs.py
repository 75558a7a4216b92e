"""What people type, turned into values; an ``ArgumentTypeError`` says what to type instead."""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentTypeError
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared.cli.failures import UsageError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def duration_s(text: str) -> float:
    """Read a length of time: ``90``, ``90s``, ``1h30m``, ``2d``; seconds when no unit is named."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not _DURATION.sub("", text) and text:
        return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION.findall(text))
    raise ArgumentTypeError(f"{text!r} is no length of time: use 90s, 5m, 1h30m or 2d")


def point_in_time(text: str) -> str:
    """Read a time as ISO 8601, the machine's own zone where none is named; gives it in UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no time: use 2026-01-31T18:00 or 2026-01-31T18:00+01:00") from None
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def priority(text: str) -> str | int:
    """Read a priority: a name, which the server checks, or an integer."""
    try:
        return int(text)
    except ValueError:
        return text


def whole(least: int) -> Any:
    """Make a reader of whole numbers from ``least`` on."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        return number

    return read


def payload(text: str) -> dict[str, Any]:
    """Read a payload: JSON, ``@FILE`` or ``-`` for standard input."""
    source = "--payload"
    if text == "-":
        source, text = "standard input", _text(sys.stdin.buffer.read(), "standard input")
    elif text.startswith("@"):
        source = text[1:]
        try:
            text = _text(Path(source).read_bytes(), source)
        except OSError as error:
            raise ArgumentTypeError(f"{source}: {error.strerror}") from None
    try:
        value = _json(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentTypeError(f"{source} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ArgumentTypeError(f'{source} holds JSON that is no object: a payload looks like {{"name": value}}')
    return value


def assignment(text: str) -> tuple[list[str], Any]:
    """Read ``name=value`` or ``outer.inner=value``; a value that is JSON is taken as JSON, others as text."""
    name, equals, value = text.partition("=")
    path = name.split(".")
    if not equals or not all(path):
        raise ArgumentTypeError(f"{text!r} is no setting: use NAME=VALUE")
    return path, json_or_text(value)


def json_or_text(text: str) -> Any:
    """Read JSON, or take the text as it is: ``2`` is a number, ``terms`` and ``"2"`` are texts."""
    try:
        return _json(text)
    except (ValueError, RecursionError):
        return text


def sheet(text: str) -> str | int:
    """Read a sheet: an index from 0, or a name; ``'"2024"'`` is the name of digits."""
    value = json_or_text(text)
    return value if isinstance(value, str) or type(value) is int else text


def mapping(text: str) -> tuple[str, str]:
    """Read ``A=B``: column A of the file goes to column B of the dataset. A may hold an equals sign, B none."""
    source, _, target = text.rpartition("=")
    if not source or not target:
        raise ArgumentTypeError(f"{text!r} is no mapping: use 'COLUMN OF THE FILE=COLUMN OF THE DATASET'")
    return source, target


def merge(base: dict[str, Any], settings: list[tuple[list[str], Any]]) -> dict[str, Any]:
    """Apply assignments to a payload, in order.

    Raises:
        UsageError: when one reaches into what is not an object.
    """
    for path, value in settings:
        target: Any = base
        for depth, name in enumerate(path):
            if not isinstance(target, dict):
                raise UsageError(f"--set {'.'.join(path)}: {'.'.join(path[:depth])} is not an object")
            if depth == len(path) - 1:
                target[name] = value
            else:
                target = target.setdefault(name, {})
    return base


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse)


def _refuse(name: str) -> None:
    # Python's parser takes them, JSON has none of them.
    raise ValueError(f"{name} is no JSON")


def _text(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ArgumentTypeError(f"{source} is not text in UTF-8") from None
