"""How a dataset is declared. A declaration that contradicts itself fails when it is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from shared.errors import ContractError

#: names that need no quoting anywhere and fit PostgreSQL's 63 bytes
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
#: tables of others may be spelt with capitals
TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_SEPARATORS = re.compile(r"[\s_\-]+")


class ColumnType(StrEnum):
    """What a column holds."""

    TEXT = "text"
    #: 64 bits
    INTEGER = "integer"
    #: double precision
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    #: an instant, kept in UTC
    DATETIME = "datetime"
    JSON = "json"


_NUMERIC = (ColumnType.INTEGER, ColumnType.NUMBER)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a dataset.

    Raises:
        ContractError: when the declaration contradicts itself.
    """

    #: name in the table, lower case
    name: str
    #: what it holds
    type: ColumnType = ColumnType.TEXT
    #: whether it may be empty
    nullable: bool = True
    #: longest text, characters
    max_length: int | None = None
    #: smallest number allowed
    minimum: float | None = None
    #: largest number allowed
    maximum: float | None = None
    #: the only texts allowed; empty for any
    choices: tuple[str, ...] = ()
    #: other names that a header may have; case, blanks, ``_`` and ``-`` make no difference
    aliases: tuple[str, ...] = ()
    #: one line for people
    description: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ContractError(f"column {self.name!r}: use lower-case letters, digits and _, at most 63.")
        if self.type not in tuple(ColumnType):
            known = ", ".join(ColumnType)
            raise ContractError(f"column {self.name!r}: there is no type {self.type!r}, use one of {known}.")
        object.__setattr__(self, "type", ColumnType(self.type))
        for problem in self._contradictions():
            raise ContractError(f"column {self.name!r}: {problem}")

    def _contradictions(self) -> Iterator[str]:
        if self.max_length is not None and (self.type is not ColumnType.TEXT or self.max_length < 1):
            yield f"max_length={self.max_length} on a {self.type} column: use 1 or more, on text only."
        if self.type not in _NUMERIC and (self.minimum, self.maximum) != (None, None):
            yield f"minimum and maximum are for integer and number, not {self.type}: remove them."
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            yield f"minimum {self.minimum} is above maximum {self.maximum}: swap them."
        if _is_bare(self.choices) or _is_bare(self.aliases):
            yield "choices and aliases are tuples: write ('a',) for a single one."
        if self.choices and self.type is not ColumnType.TEXT:
            yield f"choices are for text, not {self.type}: remove them."
        if self.max_length is not None and any(len(choice) > self.max_length for choice in self.choices):
            yield f"a choice is longer than max_length={self.max_length}: raise it."


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table as imports and exports see it.

    Raises:
        ContractError: when the declaration contradicts itself.
    """

    #: name in the API
    name: str
    #: its columns, in the order that exports use
    columns: tuple[Column, ...]
    #: names of the columns that identify a row; the table has a unique index on exactly these
    key: tuple[str, ...]
    #: table in the database; the name of the dataset when left out
    table: str = ""
    #: one line for people
    description: str = ""
    #: whether Callboard makes the table when it is missing; otherwise it must be there
    create: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "table", self.table or self.name)
        for problem in self._contradictions():
            raise ContractError(f"dataset {self.name!r}: {problem}")

    def column(self, name: str) -> Column | None:
        """Look a column up by its name in the table."""
        return next((column for column in self.columns if column.name == name), None)

    def headers(self) -> dict[str, Column]:
        """Give every header that means one of the columns, normalised, with its column."""
        return {normalise_header(header): column for column in self.columns for header in _headers_of(column)}

    def _contradictions(self) -> Iterator[str]:
        if not NAME.fullmatch(self.name):
            yield "use lower-case letters, digits and _ for its name, at most 63."
        if not TABLE.fullmatch(self.table):
            yield f"table {self.table!r}: use letters, digits and _, at most 63."
        if not self.columns:
            yield "it has no columns, add some."
        names = [column.name for column in self.columns]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"column {name!r} is declared twice, remove one."
        yield from self._key_contradictions()
        yield from self._header_contradictions()

    def _key_contradictions(self) -> Iterator[str]:
        if _is_bare(self.key):
            yield f"key is a tuple: write key=({self.key!r},)."
            return
        if not self.key:
            yield "it has no key, name the columns that identify a row."
        for name in self.key:
            column = self.column(name)
            if column is None:
                yield f"key column {name!r} is not among its columns, add it or change the key."
            elif column.nullable:
                yield f"key column {name!r} may be empty, declare it with nullable=False."
            elif column.type is ColumnType.JSON:
                yield f"key column {name!r} holds json, use a text column as key."

    def _header_contradictions(self) -> Iterator[str]:
        seen: dict[str, str] = {}
        for column in self.columns:
            for header in _headers_of(column):
                other = seen.setdefault(normalise_header(header), column.name)
                if other != column.name:
                    yield f"header {header!r} means both {other!r} and {column.name!r}, remove one alias."


def normalise_header(header: str) -> str:
    """Make headers comparable: ``Short Definition``, ``short-definition`` and ``SHORT_DEFINITION`` are the same."""
    return _SEPARATORS.sub("_", header.strip().casefold()).strip("_")


def _headers_of(column: Column) -> tuple[str, ...]:
    return (column.name, *column.aliases)


def _is_bare(value: object) -> bool:
    # ("a") is a str, not a tuple; the type checker of whoever declares it may not have run.
    return isinstance(value, str)
