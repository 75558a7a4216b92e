"""csv files, read row by row."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from services.workers.families.imports.formats import looks_like_utf16
from services.workers.families.imports.source import RowBatch
from shared.errors import PermanentError

#: longest field, characters; csv's own default of 131,072 is less than a long definition
_FIELD_LIMIT = 16 * 1024 * 1024
_CHUNK = 1024 * 1024
_DELIMITERS = (",", ";", "\t", "|")
#: rows that the delimiter is judged by
_SAMPLE_ROWS = 50


class DelimitedSource:
    """A csv file. Implements :class:`.source.RowSource`.

    Encoding and delimiter are found out: UTF-8 and UTF-16 with or without mark, else Windows-1252; of ``, ; tab |``
    the one that parts most rows into the same number of fields.

    Raises:
        PermanentError: the file is no text, or has no row ``header_row``.
    """

    sheet: str | None = None
    first_column = 0
    last_row: int | None = None

    def __init__(self, path: Path, *, header_row: int) -> None:
        csv.field_size_limit(_FIELD_LIMIT)
        self._size = path.stat().st_size
        encoding = detect_encoding(path)
        delimiter = _detect_delimiter(path, encoding, header_row)
        self._raw = path.open("rb")
        self._text = io.TextIOWrapper(self._raw, encoding=encoding, newline="")
        self._rows = csv.reader(self._text, delimiter=delimiter)
        self._position = 0
        try:
            header = next(islice(self._counted(), header_row - 1, None), None)
            if header is None:
                raise PermanentError(
                    f"The file ends at row {self._position}, so that row {header_row} (header_row) cannot hold its "
                    "column names."
                )
        except BaseException:
            self.close()
            raise
        self.header: Sequence[Any] = header

    def batches(self, after_row: int, size: int) -> Iterator[RowBatch]:
        """See :meth:`.source.RowSource.batches`."""
        rows = self._counted()
        next(islice(rows, max(0, after_row - self._position), max(0, after_row - self._position)), None)
        while chunk := list(islice(rows, size)):
            share = min(1.0, self._raw.tell() / max(1, self._size))
            yield RowBatch(first_row=self._position - len(chunk) + 1, rows=chunk, share=share)

    def close(self) -> None:
        """Close the file."""
        self._text.close()

    def _counted(self) -> Iterator[list[str]]:
        while True:
            try:
                row = next(self._rows)
            except StopIteration:
                return
            except csv.Error as error:
                raise PermanentError(f"Row {self._position + 1} is not valid csv: {error}.") from error
            except UnicodeDecodeError as error:
                raise PermanentError(f"Row {self._position + 1} is not valid {error.encoding} text.") from error
            self._position += 1
            yield row


def detect_encoding(path: Path) -> str:
    """Tell a text file's encoding.

    Raises:
        PermanentError: it is in none of those that are known.
    """
    with path.open("rb") as file:
        start = file.read(4096)
        if start.startswith(codecs.BOM_UTF8):
            return "utf-8-sig"
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        if looks_like_utf16(start):
            return "utf-16-le" if start[1::2].count(0) > start[0::2].count(0) else "utf-16-be"
        file.seek(0)
        # The whole file, since the first letter with an accent may be in its last row.
        for encoding in ("utf-8", "cp1252"):
            file.seek(0)
            decoder = codecs.getincrementaldecoder(encoding)()
            try:
                while chunk := file.read(_CHUNK):
                    decoder.decode(chunk)
                decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                continue
            return encoding
    raise PermanentError("The file is text in an encoding that is not known: save it as UTF-8.")


def _detect_delimiter(path: Path, encoding: str, header_row: int) -> str:
    best, best_score = ",", 0
    for delimiter in _DELIMITERS:
        with path.open(encoding=encoding, newline="") as file:
            # From the header on: lines above it are titles and remarks.
            rows = islice(csv.reader(file, delimiter=delimiter), header_row - 1, header_row - 1 + _SAMPLE_ROWS)
            try:
                widths = [len(row) for row in rows if row]
            except (csv.Error, UnicodeDecodeError):
                continue
        if not widths:
            continue
        width, count = Counter(widths).most_common(1)[0]
        # Agreement counts first: text with commas in it gives many widths, the real delimiter one.
        score = (width - 1) * count * (2 if widths[0] == width else 1)
        if score > best_score:
            best, best_score = delimiter, score
    return best
