"""Declarations: what contradicts itself fails when it is loaded, with what to change."""

import pytest
from sqlalchemy import inspect

from shared.database import begin_write, connect
from shared.database.datasets import Column, ColumnType, Dataset, load_datasets, normalise_header
from shared.database.datasets.tables import ensure_table
from shared.errors import ContractError, PermanentError

KEY = Column("id", nullable=False)
DECLARE = "from shared.database.datasets import Column, ColumnType, Dataset\n"


def test_the_shipped_datasets_are_there():
    datasets = load_datasets()
    assert set(datasets) == {"terms", "papers", "experiments", "parameters", "users", "bookings"}
    assert datasets["terms"].key == ("term",)
    assert datasets["parameters"].key == ("experiment_id", "name")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "Name"}, "use lower-case letters"),
        ({"name": "a", "type": "varchar"}, "no type 'varchar'"),
        ({"name": "a", "type": ColumnType.DATE, "max_length": 5}, "on text only"),
        ({"name": "a", "max_length": 0}, "use 1 or more"),
        ({"name": "a", "minimum": 1}, "for integer and number"),
        ({"name": "a", "type": ColumnType.INTEGER, "minimum": 2, "maximum": 1}, "swap them"),
        ({"name": "a", "choices": "abc"}, "are tuples"),
        ({"name": "a", "choices": ("long",), "max_length": 3}, "raise it"),
        ({"name": "a", "type": ColumnType.NUMBER, "choices": ("1",)}, "choices are for text"),
    ],
)
def test_a_column_that_contradicts_itself(fields, message):
    with pytest.raises(ContractError, match=message):
        Column(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "My set"}, "use lower-case letters"),
        ({"table": "a; drop table b"}, "use letters, digits and _"),
        ({"columns": ()}, "no columns"),
        ({"columns": (KEY, KEY)}, "declared twice"),
        ({"key": ()}, "has no key"),
        ({"key": "id"}, r"write key=\('id',\)"),
        ({"key": ("other",)}, "not among its columns"),
        ({"columns": (Column("id"),)}, "nullable=False"),
        ({"columns": (Column("id", ColumnType.JSON, nullable=False),)}, "holds json"),
        ({"columns": (KEY, Column("a", aliases=("ID",)))}, "means both 'id' and 'a'"),
    ],
)
def test_a_dataset_that_contradicts_itself(fields, message):
    with pytest.raises(ContractError, match=message):
        Dataset(**{"name": "mine", "columns": (KEY,), "key": ("id",), **fields})


def test_headers_differ_only_in_spelling():
    spellings = ["Short Definition", "short_definition", " SHORT-DEFINITION ", "short  definition"]
    assert {normalise_header(spelling) for spelling in spellings} == {"short_definition"}


def test_an_own_file_adds_datasets(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(DECLARE + "DATASETS = [Dataset('mine', (Column('id', nullable=False),), key=('id',))]\n")
    assert {"mine", "terms"} <= set(load_datasets(file))


def test_a_folder_adds_the_datasets_of_each_file(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(
            DECLARE + f"DATASETS = [Dataset('{name}', (Column('id', nullable=False),), key=('id',))]\n"
        )
    (tmp_path / "_private.py").write_text("1 / 0")
    assert {"one", "two"} <= set(load_datasets(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1", r"has no DATASETS = \[Dataset"),
        ("1 / 0", "own.py cannot be loaded: ZeroDivisionError"),
        ("DATASETS = [Dataset('terms', (Column('id', nullable=False),), key=('id',))]", "Callboard itself declares"),
        (
            "DATASETS = [Dataset('a', (Column('id'),), key=('id',))]",
            "own.py: dataset 'a': key column 'id' may be empty",
        ),
        (
            "DATASETS = [Dataset('a', (Column('term', ColumnType.INTEGER, nullable=False),), key=('term',),"
            " table='terms')]",
            "is integer in dataset 'a' but text in 'terms'",
        ),
    ],
)
def test_an_own_file_that_cannot_be(content, message, tmp_path):
    (tmp_path / "own.py").write_text(DECLARE + content)
    with pytest.raises(ContractError, match=message):
        load_datasets(tmp_path / "own.py")


def test_a_path_that_leads_nowhere(tmp_path):
    with pytest.raises(ContractError, match="is not there"):
        load_datasets(tmp_path / "missing.py")
    with pytest.raises(ContractError, match=r"no \.py file"):
        load_datasets(tmp_path)


def _dataset(**fields):
    return Dataset(
        **{"name": "mine", "columns": (KEY, Column("size", ColumnType.NUMBER)), "key": ("id",), "table": "Mine"}
        | fields
    )


def test_a_table_is_made_when_the_declaration_says_so(any_url):
    engine = connect(any_url)
    for _ in range(2):
        ensure_table(engine, _dataset(create=True))
    assert {column["name"] for column in inspect(engine).get_columns("Mine")} == {"id", "size"}
    engine.dispose()


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        (None, "has no table 'Mine'.*declare create=True"),
        ('CREATE TABLE "Mine" (id TEXT PRIMARY KEY)', "lacks what dataset 'mine' declares: size"),
        ('CREATE TABLE "Mine" (id TEXT, size FLOAT)', r"Nothing makes \(id\) unique"),
        ('CREATE TABLE "Mine" (id TEXT, size FLOAT, UNIQUE (id, size))', r"Nothing makes \(id\) unique"),
    ],
)
def test_a_table_that_does_not_fit(any_url, ddl, message):
    engine = connect(any_url)
    if ddl:
        with begin_write(engine) as connection:
            connection.exec_driver_sql(ddl)
    with pytest.raises(PermanentError, match=message):
        ensure_table(engine, _dataset())
    engine.dispose()


def test_a_unique_index_makes_a_key(any_url):
    engine = connect(any_url)
    with begin_write(engine) as connection:
        connection.exec_driver_sql('CREATE TABLE "Mine" (id TEXT, size FLOAT)')
        connection.exec_driver_sql('CREATE UNIQUE INDEX by_id ON "Mine" (id)')
    ensure_table(engine, _dataset())
    engine.dispose()
