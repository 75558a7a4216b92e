"""Checks on a zipped workbook before anything unpacks it."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from services.workers.families.imports.settings import ImportSettings
from shared.errors import PermanentError

#: archives below this uncompressed size are harmless whatever their ratio, bytes
_HARMLESS_BYTES = 16 * 1024**2
#: a workbook has some files a sheet; thousands mean something else
_MAX_FILES = 10_000
_CHUNK = 256 * 1024
_ENCRYPTED = 0x1
#: length of a local file header without name and extra field, and where the lengths of these two are
_LOCAL_HEADER = 30
_XML_ENDINGS = (".xml", ".rels")


def check_archive(path: Path, settings: ImportSettings) -> list[str]:
    """Refuse an archive that would unpack to more than the settings allow; give the names of its files.

    The sizes that the archive declares are compared with what really comes out.

    Raises:
        PermanentError: a zip bomb, a damaged or encrypted archive, or XML with a document type (which a workbook
            never has, and which entity expansion attacks need).
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            files = archive.infolist()
            _check_declared(files, path.stat().st_size, settings)
            for info in files:
                _check_content(file, info)
            return [info.filename for info in files]
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, NotImplementedError) as error:
        raise PermanentError(f"The workbook is damaged and cannot be unpacked: {error}") from error


def _check_declared(files: list[zipfile.ZipInfo], size: int, settings: ImportSettings) -> None:
    if len(files) > _MAX_FILES:
        raise PermanentError(f"The workbook holds {len(files)} files; real ones hold fewer than {_MAX_FILES}.")
    for info in files:
        if info.flag_bits & _ENCRYPTED:
            raise PermanentError("The workbook is encrypted: save it without a password and upload it again.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise PermanentError(
                f"The workbook is packed in a way (method {info.compress_type}) that workbooks never are."
            )
    total = sum(info.file_size for info in files)
    if total > settings.max_uncompressed_bytes:
        raise PermanentError(
            f"The workbook unpacks to {_mib(total)}, more than the limit of {_mib(settings.max_uncompressed_bytes)}: "
            "split it, save it as csv, or raise IMPORTS_MAX_UNCOMPRESSED_BYTES."
        )
    if total > _HARMLESS_BYTES and total > size * settings.max_compression_ratio:
        raise PermanentError(
            f"The workbook unpacks to {total // max(size, 1)} times its size ({_mib(total)}), which looks like a zip "
            f"bomb: save it anew, or raise IMPORTS_MAX_COMPRESSION_RATIO (now {settings.max_compression_ratio})."
        )


def _check_content(file: BinaryIO, info: zipfile.ZipInfo) -> None:
    # Large parts are checked from their first piece and their declared size only: unpacking 100 MB just to see
    # whether they keep their word costs half a second, and the process that parses them has bounds of its own.
    whole = info.file_size <= _HARMLESS_BYTES
    size = 0
    for chunk in _inflate(file, info):
        if size == 0 and info.filename.lower().endswith(_XML_ENDINGS) and b"<!DOCTYPE" in chunk:
            raise PermanentError("The workbook holds XML with a document type, which may expand without end: refused.")
        size += len(chunk)
        if size > info.file_size:
            raise PermanentError(
                f"The workbook says that {info.filename!r} is smaller than it is: refused as a zip bomb."
            )
        if not whole:
            return


def _inflate(file: BinaryIO, info: zipfile.ZipInfo) -> Iterator[bytes]:
    # ZipFile.open stops at the declared size, so that it cannot tell whether there is more.
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or not header.startswith(b"PK\x03\x04"):
        raise zipfile.BadZipFile(f"{info.filename!r} is not where the archive says")
    file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
    left = info.compress_size
    inflater = zlib.decompressobj(-zlib.MAX_WBITS) if info.compress_type == zipfile.ZIP_DEFLATED else None
    while left > 0:
        packed = file.read(min(left, _CHUNK))
        if not packed:
            raise zipfile.BadZipFile(f"{info.filename!r} is cut off")
        left -= len(packed)
        if inflater is None:
            yield packed
            continue
        while packed and not inflater.eof:
            yield inflater.decompress(packed, _CHUNK)
            packed = inflater.unconsumed_tail
        if inflater.eof:
            return


def _mib(size: int) -> str:
    return f"{size / 1024**2:,.0f} MiB"
