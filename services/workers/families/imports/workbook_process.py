"""The process that parses a workbook and sends its rows to the worker: nothing but calamine runs here.

A workbook of a few kilobytes can make a parser ask for terabytes (a cell at XFD1048576, a shared-string count of
10^12), and the parser then ends its process, with every other job in it. So that process is this one, with bounds
on memory and processor time; it also takes the parsing off the worker's interpreter, which writes meanwhile.

Frames on standard output: length (4 bytes, big endian) and a pickled tuple whose first item names it.
"""

from __future__ import annotations

import json
import pickle
import resource
import struct
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO

from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    XmlError,
    ZipError,
)


def main(arguments: str) -> None:
    """Parse and send.

    Args:
        arguments: JSON object with ``path``, ``sheet``, ``header_row``, ``memory_bytes``, ``cpu_s``.
    """
    request = json.loads(arguments)
    _bound(resource.RLIMIT_AS, request["memory_bytes"])
    _bound(resource.RLIMIT_CPU, request["cpu_s"])
    # A core file would hold the content of the workbook.
    _bound(resource.RLIMIT_CORE, 0)
    out = sys.stdout.buffer
    try:
        _serve(request, out)
    except _Refused as refusal:
        _send(out, ("refused", str(refusal)))
    except PasswordError:
        _send(out, ("refused", "The workbook is encrypted: save it without a password and upload it again."))
    except (CalamineError, XmlError, ZipError, OSError, ValueError, OverflowError) as error:
        _send(out, ("refused", f"The workbook is damaged and cannot be read: {error}"[:500]))
    except MemoryError:
        _send(out, ("memory",))


class _Refused(Exception):
    """The request does not fit the workbook."""


def _serve(request: dict[str, Any], out: BinaryIO) -> None:
    sheet = _choose(CalamineWorkbook.from_path(request["path"]), request["sheet"])
    if sheet.start is None or sheet.end is None:
        raise _Refused(f"Sheet {sheet.name!r} is empty.")
    rows = sheet.iter_rows()
    header_row: int = request["header_row"]
    header = next(islice(rows, header_row - 1, None), None)
    if header is None:
        raise _Refused(
            f"Sheet {sheet.name!r} ends at row {sheet.end[0] + 1}, so that row {header_row} (header_row) cannot hold "
            "its column names."
        )
    _send(out, ("opened", sheet.name, sheet.start[1], sheet.end[0] + 1, header))
    # The worker answers with where to start and how many rows it wants at a time.
    after_row, size = map(int, sys.stdin.readline().split())
    position = max(after_row, header_row)
    _skip(rows, position - header_row)
    while chunk := list(islice(rows, size)):
        _send(out, ("rows", position + 1, chunk))
        position += len(chunk)
    _send(out, ("end",))


def _choose(workbook: CalamineWorkbook, wanted: str | int | None) -> CalamineSheet:
    names = workbook.sheet_names
    if not names:
        raise _Refused("The workbook has no sheets.")
    listed = ", ".join(repr(name) for name in names)
    tables = [item.name for item in workbook.sheets_metadata if item.typ is SheetTypeEnum.WorkSheet]
    if wanted is None:
        if not tables:
            raise _Refused(f"The workbook has no sheet with rows, only: {listed}.")
        wanted = tables[0]
    if isinstance(wanted, int):
        if not 0 <= wanted < len(names):
            raise _Refused(f"There is no sheet {wanted} (counted from 0). Sheets: {listed}.")
        wanted = names[wanted]
    if wanted not in names:
        raise _Refused(f"There is no sheet {wanted!r}. Sheets: {listed}.")
    if wanted not in tables:
        raise _Refused(f"Sheet {wanted!r} holds no rows but a chart or macros. Sheets: {listed}.")
    return workbook.get_sheet_by_name(wanted)


def _skip(rows: Iterator[Any], count: int) -> None:
    next(islice(rows, count, count), None)


def _send(out: BinaryIO, frame: tuple[Any, ...]) -> None:
    body = pickle.dumps(frame, protocol=5)
    out.write(struct.pack(">I", len(body)))
    out.write(body)
    out.flush()


def _bound(what: int, limit: int) -> None:
    _, hard = resource.getrlimit(what)
    # At the soft limit of processor time comes SIGXCPU, which says why; at the hard one SIGKILL.
    above = limit + (5 if what == resource.RLIMIT_CPU else 0)
    if hard != resource.RLIM_INFINITY:
        limit, above = min(limit, hard), min(above, hard)
    resource.setrlimit(what, (limit, above))


if __name__ == "__main__":
    main(sys.argv[1])
