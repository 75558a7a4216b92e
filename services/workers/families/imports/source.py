"""What an import reads from: rows in batches, whatever file they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

#: called now and then while a source works without giving rows; may raise to stop it
Waiting = Callable[[], None]


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Consecutive rows of a source."""

    #: number of the first row, counted from 1 as in the workbook
    first_row: int
    #: the cells of each row, in the order of the source's header
    rows: Sequence[Sequence[Any]]
    #: how much of the source has been read after this batch, 0 to 1; None when the number of rows is known
    share: float | None = None

    @property
    def last_row(self) -> int:
        """Number of the last row."""
        return self.first_row + len(self.rows) - 1


class RowSource(Protocol):
    """An opened file, positioned after its header."""

    #: name of the sheet; None for a csv file
    sheet: str | None
    #: the cells of the header row
    header: Sequence[Any]
    #: where the first cell of each row stands: 0 for column A
    first_column: int
    #: number of the last row; None when it is not known beforehand
    last_row: int | None

    def batches(self, after_row: int, size: int) -> Iterator[RowBatch]:
        """Give the rows after ``after_row``, at most ``size`` at a time."""
        ...

    def close(self) -> None:
        """Release file and process."""
        ...


def column_letter(index: int) -> str:
    """Name a column as spreadsheets do: 0 is A, 26 is AA."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
