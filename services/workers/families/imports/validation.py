"""From the rows of a batch to columns that can be written, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from services.workers.families.imports.conversion import Converter, converter_for, text_of
from services.workers.families.imports.layout import Layout
from services.workers.families.imports.source import RowBatch

#: of a wrong value, so much is shown
SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Reject:
    """One mistake in a row that was not taken."""

    #: as in the workbook, counted from 1
    row_number: int
    #: column of the dataset; empty when the mistake is of the whole row
    column: str
    #: what is wrong, in plain words
    reason: str
    #: the value, shortened
    value: str


@dataclass(frozen=True, slots=True)
class ValidBatch:
    """A batch after conversion."""

    #: one sequence a column of the layout, all of the same length
    columns: Sequence[Sequence[Any]]
    #: number of each row, as in the workbook
    row_numbers: Sequence[int]
    #: every mistake of the other rows, by row
    rejects: Sequence[Reject]
    #: rows that are not blank
    read: int
    #: rows with at least one mistake
    rejected: int


class Validator:
    """Converts the batches of one import; the converters are chosen once."""

    def __init__(self, layout: Layout, dialect: str) -> None:
        self._layout = layout
        self._converters: list[Converter] = [converter_for(column, dialect) for column in layout.columns]

    def validate(self, batch: RowBatch) -> ValidBatch:
        """Convert a batch; blank rows are passed over."""
        rows, numbers, rejects = self._shaped(batch)
        read = len(rows) + len(rejects)
        if not rows:
            return ValidBatch([() for _ in self._converters], (), rejects, read, len(rejects))
        cells = list(zip(*rows, strict=True))
        columns: list[Sequence[Any]] = []
        wrong: dict[int, list[Reject]] = {}
        for column, index, converter in zip(self._layout.columns, self._layout.indexes, self._converters, strict=True):
            values, reasons = converter.convert(cells[index])
            columns.append(values)
            for at, reason in reasons.items():
                wrong.setdefault(at, []).append(Reject(numbers[at], column.name, reason, shown(cells[index][at])))
        if wrong:
            keep = [at not in wrong for at in range(len(rows))]
            columns = [list(compress(values, keep)) for values in columns]
            numbers = list(compress(numbers, keep))
            rejects += [reject for at in sorted(wrong) for reject in wrong[at]]
            rejects.sort(key=lambda reject: reject.row_number)
        return ValidBatch(columns, numbers, rejects, read, read - len(numbers))

    def _shaped(self, batch: RowBatch) -> tuple[list[Sequence[Any]], Sequence[int], list[Reject]]:
        """Leave blank rows out and make all rows as wide as the header."""
        width = self._layout.width
        rows: list[Sequence[Any]] = []
        numbers: list[int] = []
        rejects: list[Reject] = []
        for number, row in enumerate(batch.rows, batch.first_row):
            # any() sees 0 and False as blank too, so only what it passes over is looked at closely.
            if not any(row) and all(value is None or value == "" for value in row):
                continue
            if len(row) != width:
                if len(row) > width and any(value not in (None, "") for value in row[width:]):
                    reason = (
                        f"the row has {len(row)} fields, but the header {width}: quote text that holds the separator"
                    )
                    rejects.append(Reject(number, "", reason, shown(row[width])))
                    continue
                row = [*row[:width], *[""] * (width - len(row))]
            rows.append(row)
            numbers.append(number)
        return rows, numbers, rejects


def shown(value: Any) -> str:
    """Shorten a value for people; NUL and half surrogates, which no database takes, become question marks."""
    text = "" if value is None else text_of(value)
    if len(text) > SHOWN_CHARACTERS:
        text = text[: SHOWN_CHARACTERS - 1] + "…"
    return text.replace("\x00", "?").encode(errors="replace").decode()
