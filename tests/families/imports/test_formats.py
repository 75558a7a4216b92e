"""Every format that is read, told by content, with the types that each can hold."""

import datetime as dt
from typing import Any

import pytest

from services.workers.families.imports.source import column_letter
from tests.families.imports import files
from tests.families.imports.harness import counts

DAY = dt.date(2024, 5, 1)
HEADER = ["paper_id", "title", "year", "citations", "open_access", "published_on", "unknown"]
ROWS: list[list[Any]] = [
    HEADER,
    ["p1", "Attention Is All You Need", 2017, 100_000, True, DAY, "x"],
    ["p2", "Ünïcode – 論文", 1998, 0, False, DAY, ""],
    ["p3", 2001, 2001, 7, True, DAY, ""],
]
EXPECTED = [
    ("p1", "Attention Is All You Need", 2017, 100_000, 1, "2024-05-01"),
    ("p2", "Ünïcode – 論文", 1998, 0, 0, "2024-05-01"),
    ("p3", "2001", 2001, 7, 1, "2024-05-01"),
]
STORED = "SELECT paper_id, title, year, citations, open_access, published_on FROM papers ORDER BY paper_id"


@pytest.mark.parametrize("kind", files.WORKBOOKS)
def test_workbooks_of_every_format(imports, tmp_path, kind):
    # The name says nothing: what decides is the content.
    path = files.WORKBOOKS[kind](tmp_path / f"book.{kind}", ROWS).rename(tmp_path / "upload.dat")
    result = imports.excel(path, dataset="papers")
    assert counts(result) == (3, 3, 0, 0, 0)
    assert result["sheet"] == "Sheet1"
    assert result["ignored_columns"] == ["unknown"]
    assert result["report_file_id"] is None
    assert imports.query(STORED) == EXPECTED


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_of_every_kind(imports, tmp_path, encoding, delimiter):
    # Enough plain text for UTF-16 without a mark to be told from its zero bytes.
    rows = [row if index != 2 else [*row[:1], "Ünïcode – 論文", *row[2:]] for index, row in enumerate(ROWS)]
    path = files.csv(tmp_path / "papers.xlsx", rows, delimiter=delimiter, encoding=encoding)
    result = imports.excel(path, dataset="papers")
    assert counts(result) == (3, 3, 0, 0, 0)
    assert result["sheet"] is None
    assert imports.query(STORED) == EXPECTED


def test_csv_in_windows_1252(imports, tmp_path):
    path = files.csv(tmp_path / "a.csv", [["term", "definition"], ["naïve Bayes", "“naïve” – 5 €"]], encoding="cp1252")
    imports.excel(path)
    assert imports.query("SELECT term, definition FROM terms") == [("naïve Bayes", "“naïve” – 5 €")]


def test_csv_with_titles_above_quotes_and_line_ends_inside(imports, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        'Glossary, made in May\n\n"term";"definition";"category"\n"a";"one; two\nthree";"x"\n\n"b";"""q""";\n'
    )
    result = imports.excel(path, header_row=3)
    assert counts(result) == (2, 2, 0, 0, 0)
    assert imports.query("SELECT term, definition, category FROM terms ORDER BY 1") == [
        ("a", "one; two\nthree", "x"),
        ("b", '"q"', None),
    ]


def test_csv_rows_with_too_few_and_too_many_fields(imports, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("term,definition,category\na,first\nb,text, with a comma,x\nc,third,x,\n")
    result = imports.excel(path)
    assert counts(result) == (3, 2, 0, 0, 1)
    (reject,) = imports.report(result["report_file_id"])
    assert reject["row"] == "3"
    assert "the row has 4 fields, but the header 3" in reject["reason"]


def test_a_long_field_in_csv(imports, tmp_path):
    imports.declare(
        "DATASETS = [Dataset('long', (Column('id', nullable=False), Column('body')), key=('id',), create=True)]"
    )
    imports.excel(files.csv(tmp_path / "a.csv", [["id", "body"], ["1", "x" * 300_000]]), dataset="long")
    assert imports.query("SELECT length(body) FROM long") == [(300_000,)]


@pytest.mark.parametrize(("sheet", "expected"), [(None, "a"), ("Second", "b"), (1, "b"), (0, "a")])
def test_a_sheet_by_name_or_index(imports, tmp_path, sheet, expected):
    header = ["term", "definition"]
    more = [("Second", [header, ["b", "B"]])]
    path = files.xlsx(tmp_path / "a.xlsx", [header, ["a", "A"]], "First", more=more)
    result = imports.excel(path, sheet=sheet)
    assert result["sheet"] == ("First" if expected == "a" else "Second")
    assert imports.query("SELECT term FROM terms") == [(expected,)]


def test_a_table_that_does_not_start_in_the_first_cell(imports, tmp_path):
    rows = [
        [],
        ["", "A title"],
        [],
        ["", "", "Term", "Definition", "Year"],
        [],
        ["", "", "a", "A", "x"],
        ["", "", "b", "B", ""],
    ]
    result = imports.excel(files.xlsx(tmp_path / "a.xlsx", rows), header_row=4)
    assert counts(result) == (2, 1, 0, 0, 1)
    (reject,) = imports.report(result["report_file_id"])
    assert (reject["row"], reject["column"], reject["value"]) == ("6", "year_introduced", "x")


def test_a_claim_to_be_huge_harms_nothing(imports, tmp_path):
    plain = files.xlsx(tmp_path / "plain.xlsx", [["term", "definition"], ["a", "A"]])
    path = files.edited(
        tmp_path / "a.xlsx", plain, files.in_sheet(lambda xml: xml.replace(b'ref="A1:B2"', b'ref="A1:XFD1048576"'))
    )
    assert counts(imports.excel(path)) == (1, 1, 0, 0, 0)


def test_the_reader_gives_all_rows_of_a_large_sheet_in_order(imports, tmp_path):
    rows = [["term", "definition"], *([f"t{number:05}", "x" * 50] for number in range(20_000))]
    result = imports.excel(files.xlsx(tmp_path / "a.xlsx", rows), batch_size=777)
    assert counts(result) == (20_000, 20_000, 0, 0, 0)
    assert imports.query("SELECT count(*), min(term), max(term) FROM terms") == [(20_000, "t00000", "t19999")]


def test_columns_are_named_as_in_spreadsheets():
    assert [column_letter(index) for index in (0, 25, 26, 51, 52, 701, 702, 16_383)] == [
        "A", "Z", "AA", "AZ", "BA", "ZZ", "AAA", "XFD",
    ]  # fmt: skip
