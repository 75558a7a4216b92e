"""What kind of file it is, told from its content; names lie."""

from __future__ import annotations

import mmap
from enum import StrEnum
from pathlib import Path

from services.workers.families.imports.archive import check_archive
from services.workers.families.imports.settings import ImportSettings
from shared.errors import PermanentError


class FileFormat(StrEnum):
    """A kind of file that can be imported; the value is the usual ending of its name."""

    XLSX = "xlsx"
    XLSB = "xlsb"
    ODS = "ods"
    XLS = "xls"
    CSV = "csv"


_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: the first BIFF record of workbooks from before Excel 97, which have no OLE container
_OLD_BIFF = (b"\x09\x00", b"\x09\x02", b"\x09\x04", b"\x09\x08")
#: streams of Word, PowerPoint and Visio documents and Outlook messages
_OTHER_DOCUMENTS = ("WordDocument", "PowerPoint Document", "VisioDocument", "__substg1.0_")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_SAMPLE = 64 * 1024
#: what people upload by mistake, by how it starts
_OTHERS = (
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"{\\rtf", "an RTF document"),
)
#: characters that no text has (tab, line ends and form feed are fine)
_BINARY = bytes(set(range(32)) - {9, 10, 12, 13})
_ACCEPTED = "Accepted are xlsx, xls, xlsb, ods and csv."


def detect(path: Path, settings: ImportSettings) -> FileFormat:
    """Tell the format of a file and refuse what cannot be one, or is not safe to open.

    Raises:
        PermanentError: the file is empty, encrypted, a zip bomb or no workbook; the message says which.
    """
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
    if not sample.strip(b"\x00 \t\r\n\xef\xbb\xbf\xff\xfe"):
        raise PermanentError("The file is empty.")
    if sample.startswith(b"PK\x03\x04"):
        return _zipped(check_archive(path, settings))
    if sample.startswith(_OLE):
        return _compound(path)
    if sample.startswith(b"PK\x05\x06"):
        raise PermanentError(f"The file is an empty archive, not a workbook. {_ACCEPTED}")
    return _text(sample)


def _zipped(names: list[str]) -> FileFormat:
    known = {
        "xl/workbook.xml": FileFormat.XLSX,
        "xl/workbook.bin": FileFormat.XLSB,
        "content.xml": FileFormat.ODS,
    }
    # A workbook may name its main part otherwise, so the folder decides when the usual names are missing.
    for name in names:
        if name.lower().lstrip("/") in known:
            return known[name.lower().lstrip("/")]
    if any(name.lower().lstrip("/").startswith("xl/") for name in names):
        return FileFormat.XLSX
    raise PermanentError(f"The file is a zip archive, but not a workbook. {_ACCEPTED}")


def _compound(path: Path) -> FileFormat:
    # The directory of an OLE container names its streams in UTF-16. An encrypted xlsx, xlsb or ods is such a container
    # with the stream EncryptedPackage; Word and PowerPoint documents have streams of theirs.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find("EncryptedPackage".encode("utf-16-le")) >= 0:
            raise PermanentError("The workbook is encrypted: save it without a password and upload it again.")
        if any(content.find(name.encode("utf-16-le")) >= 0 for name in _OTHER_DOCUMENTS):
            raise PermanentError(f"The file is another Office document, not a workbook. {_ACCEPTED}")
    return FileFormat.XLS


def _text(sample: bytes) -> FileFormat:
    for start, name in _OTHERS:
        if sample.startswith(start):
            raise PermanentError(f"The file is {name}, not a workbook. {_ACCEPTED}")
    if sample.startswith(_UTF16_MARKS) or looks_like_utf16(sample):
        return FileFormat.CSV
    head = sample[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html", b"<?xml", b"<table")):
        raise PermanentError(
            "The file is a web page or XML that only bears the name of a workbook: open it in a spreadsheet program "
            "and save it as xlsx."
        )
    if sample.startswith(_OLD_BIFF) or len(sample.translate(None, _BINARY)) != len(sample):
        raise PermanentError(f"The file is not a workbook. {_ACCEPTED}")
    return FileFormat.CSV


def looks_like_utf16(sample: bytes) -> bool:
    """Tell whether text is UTF-16 without a mark: mostly Latin text has a zero in every second byte."""
    even, odd = sample[0:4096:2], sample[1:4096:2]
    shares = sorted(part.count(0) / len(part) if part else 0.0 for part in (even, odd))
    return shares[1] > 0.6 and shares[0] < 0.05
