"""Which column of a file goes into which column of the dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.workers.families.imports.source import column_letter
from shared.database.datasets import Column, Dataset, normalise_header
from shared.errors import PermanentError


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a file that an import uses."""

    #: columns of the dataset, in the order in which they are written
    columns: tuple[Column, ...]
    #: where each of them stands in a row of the source
    indexes: tuple[int, ...]
    #: names of columns in the file that the dataset does not have
    ignored: tuple[str, ...]
    #: how many cells a row has
    width: int


def match_columns(
    dataset: Dataset, header: Sequence[Any], mapping: Mapping[str, str], *, header_row: int, first_column: int = 0
) -> Layout:
    """Match the header of a file with the columns of a dataset.

    An entry of ``mapping`` wins over a header that bears the column's own name or an alias of it.

    Raises:
        PermanentError: the header is empty, a required column is missing, two headers mean the same column, or the
            mapping names what is not there.
    """
    names = [_text(cell) for cell in header]
    if not any(names):
        raise PermanentError(f"Row {header_row} (header_row) is empty: it must hold the names of the columns.")
    matched = _mapped(dataset, names, mapping)
    taken = {column.name for column in matched.values()}
    known = dataset.headers()
    explicit = set(matched)
    for index, name in enumerate(names):
        column = known.get(normalise_header(name)) if name and index not in explicit else None
        if column is not None and column.name not in taken:
            matched[index] = column
    _refuse_duplicates(matched, names, first_column)
    _refuse_missing(dataset, matched, names, header_row)
    order = sorted(matched)
    return Layout(
        columns=tuple(matched[index] for index in order),
        indexes=tuple(order),
        ignored=tuple(dict.fromkeys(name for index, name in enumerate(names) if name and index not in matched)),
        width=len(names),
    )


def _mapped(dataset: Dataset, names: list[str], mapping: Mapping[str, str]) -> dict[int, Column]:
    matched: dict[int, Column] = {}
    for header, target in mapping.items():
        column = dataset.column(target)
        if column is None:
            there = ", ".join(column.name for column in dataset.columns)
            raise PermanentError(
                f"mapping sends {header!r} to {target!r}, which dataset {dataset.name!r} does not have. "
                f"Its columns: {there}."
            )
        indexes = [index for index, name in enumerate(names) if name == header.strip()] or [
            index for index, name in enumerate(names) if normalise_header(name) == normalise_header(header)
        ]
        if not indexes:
            raise PermanentError(f"mapping names the column {header!r}, which the file does not have. {_listed(names)}")
        matched.update(dict.fromkeys(indexes, column))
    return matched


def _refuse_duplicates(matched: Mapping[int, Column], names: Sequence[str], first_column: int) -> None:
    places: dict[str, list[int]] = {}
    for index, column in sorted(matched.items()):
        places.setdefault(column.name, []).append(index)
    for name, indexes in places.items():
        if len(indexes) > 1:
            cells = " and ".join(f"{column_letter(first_column + index)} ({names[index]!r})" for index in indexes)
            raise PermanentError(
                f"Columns {cells} both mean {name!r}: rename or remove one, or say which with 'mapping'."
            )


def _refuse_missing(dataset: Dataset, matched: Mapping[int, Column], names: list[str], header_row: int) -> None:
    there = {column.name for column in matched.values()}
    missing = [column.name for column in dataset.columns if not column.nullable and column.name not in there]
    if missing:
        which = "column" if len(missing) == 1 else "columns"
        raise PermanentError(
            f"The file lacks the {which} {', '.join(map(repr, missing))} that dataset {dataset.name!r} needs. "
            f"{_listed(names)} If row {header_row} is not the header, say which is with 'header_row'; if a column "
            "bears another name, say so with 'mapping'.",
            missing_columns=missing,
        )


def _listed(names: Sequence[str]) -> str:
    shown = [name for name in names if name]
    more = f" and {len(shown) - 50} more" if len(shown) > 50 else ""
    return f"Columns in the file: {', '.join(map(repr, shown[:50]))}{more}."


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)  # a header such as 2024
    return "" if cell is None else str(cell).strip()
