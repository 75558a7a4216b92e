"""Makes import files of every format, good and bad."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import odswriter
import pyxlsbwriter
import xlsxwriter  # type: ignore[import-untyped]
import xlwt

Rows = Sequence[Sequence[Any]]


def xlsx(path: Path, rows: Rows, sheet: str = "Sheet1", *, more: Sequence[tuple[str, Rows]] = ()) -> Path:
    with xlsxwriter.Workbook(str(path), {"default_date_format": "yyyy-mm-dd"}) as book:
        for name, content in ((sheet, rows), *more):
            page = book.add_worksheet(name)
            for index, row in enumerate(content):
                page.write_row(index, 0, row)
    return path


def xls(path: Path, rows: Rows, sheet: str = "Sheet1") -> Path:
    book = xlwt.Workbook()
    page = book.add_sheet(sheet)
    day = xlwt.easyxf(num_format_str="yyyy-mm-dd")
    for index, row in enumerate(rows):
        for column, value in enumerate(row):
            if isinstance(value, dt.date):
                page.write(index, column, value, day)
            else:
                page.write(index, column, value)
    book.save(str(path))
    return path


def xlsb(path: Path, rows: Rows, sheet: str = "Sheet1") -> Path:
    with pyxlsbwriter.XlsbWriter(str(path)) as book:
        book.add_sheet(sheet)
        book.write_sheet([list(row) for row in rows])
    return path


def ods(path: Path, rows: Rows, sheet: str = "Sheet1") -> Path:
    with path.open("wb") as file, odswriter.writer(file) as book:
        page = book.new_sheet(sheet)
        for row in rows:
            page.writerow(row)
    return path


def csv(path: Path, rows: Rows, *, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    import csv as module

    with path.open("w", encoding=encoding, newline="") as file:
        module.writer(file, delimiter=delimiter).writerows(rows)
    return path


WORKBOOKS: dict[str, Callable[[Path, Rows], Path]] = {"xlsx": xlsx, "xls": xls, "xlsb": xlsb, "ods": ods}


def edited(path: Path, source: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """Copy a zipped workbook, changing its parts."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info)))
    return path


def in_sheet(change: Callable[[bytes], bytes]) -> Callable[[str, bytes], bytes]:
    return lambda name, content: change(content) if name.endswith("sheet1.xml") else content


def encrypted(path: Path, source: Path) -> Path:
    from msoffcrypto.format.ooxml import OOXMLFile

    out = io.BytesIO()
    with source.open("rb") as file:
        OOXMLFile(file).encrypt("password", out)
    path.write_bytes(out.getvalue())
    return path
