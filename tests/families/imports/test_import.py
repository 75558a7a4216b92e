"""What an import does with rows: counts, conflicts, rejects, mapping, own datasets. On both databases."""

import pytest
from sqlalchemy.exc import OperationalError

from services.workers.families.imports import run as run_module
from shared.context import JobContext
from shared.engine.engine import LeaseStatus
from shared.errors import JobCancelled, PermanentError, RetryableError
from tests.families.imports import files
from tests.families.imports.harness import FakePort, counts

HEADER = ["term", "definition", "category", "year_introduced"]
ALL = "SELECT term, definition, category, year_introduced FROM terms ORDER BY term"


def workbook(tmp_path, rows, header=HEADER, name="a.xlsx"):
    return files.xlsx(tmp_path / name, [header, *rows])


def test_the_result_says_everything(any_imports, tmp_path):
    path = workbook(tmp_path, [["a", "A", "x", 1950], ["b", "", "x", 1950]], [*HEADER, "colour"])
    result = any_imports.excel(path)
    report, seconds = result.pop("report_file_id"), result.pop("seconds")
    assert result == {
        "dataset": "terms",
        "sheet": "Sheet1",
        "ignored_columns": ["colour"],
        "read": 2,
        "inserted": 1,
        "updated": 0,
        "skipped": 0,
        "rejected": 1,
    }
    assert seconds > 0
    assert any_imports.storage.stat(report).name == "a-rejects.csv"


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_update_counts_new_and_known_rows_exactly(any_imports, tmp_path, batch_size):
    any_imports.execute("INSERT INTO terms (term, definition, types) VALUES ('b', 'old', 'kept'), ('z', 'old', NULL)")
    rows = [["a", "1", "x", ""], ["b", "2", "", ""], ["a", "3", "", 1950], ["c", "4", "", ""], ["b", "5", "", ""]]
    result = any_imports.excel(workbook(tmp_path, rows), batch_size=batch_size)
    assert counts(result) == (5, 2, 3, 0, 0)
    assert any_imports.query(ALL) == [
        ("a", "3", None, 1950),
        ("b", "5", None, None),
        ("c", "4", None, None),
        ("z", "old", None, None),
    ]
    # What the file doesn't name stays as it is.
    assert any_imports.query("SELECT types FROM terms WHERE term = 'b'") == [("kept",)]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_skip_keeps_what_is_there_and_the_first_of_a_file(any_imports, tmp_path, batch_size):
    any_imports.execute("INSERT INTO terms (term, definition) VALUES ('b', 'old')")
    rows = [["a", "1", "", ""], ["b", "2", "", ""], ["a", "3", "", ""], ["c", "4", "", ""]]
    result = any_imports.excel(workbook(tmp_path, rows), conflict="skip", batch_size=batch_size)
    assert counts(result) == (4, 2, 0, 2, 0)
    assert any_imports.query("SELECT term, definition FROM terms ORDER BY 1") == [("a", "1"), ("b", "old"), ("c", "4")]


@pytest.mark.parametrize(
    ("rows", "row", "kept"),
    [
        ([["a", "1"], ["c", "2"], ["d", "3"], ["b", "4"]], 5, ["a", "b", "c"]),
        ([["a", "1"], ["a", "2"]], 3, ["b"]),
    ],
)
def test_fail_names_the_row_and_keeps_the_batches_before(any_imports, tmp_path, rows, row, kept):
    any_imports.execute("INSERT INTO terms (term, definition) VALUES ('b', 'old')")
    path = workbook(tmp_path, rows, ["term", "definition"])
    with pytest.raises(PermanentError, match=rf"Row {row}: term = '[ab]' is in 'terms' already"):
        any_imports.excel(path, conflict="fail", batch_size=2)
    assert [term for (term,) in any_imports.query("SELECT term FROM terms ORDER BY 1")] == kept


def test_fail_without_conflict(any_imports, tmp_path):
    assert counts(any_imports.excel(workbook(tmp_path, [["a", "1", "", ""]]), conflict="fail")) == (1, 1, 0, 0, 0)


def test_a_key_of_two_columns(any_imports, tmp_path):
    header = ["experiment_id", "name", "value"]
    rows = [["e1", "temperature", 20.5], ["e1", "pH", 7], ["e2", "pH", 6], ["e1", "pH", 8]]
    result = any_imports.excel(workbook(tmp_path, rows, header), dataset="parameters")
    assert counts(result) == (4, 3, 1, 0, 0)
    assert any_imports.query("SELECT experiment_id, name, value FROM parameters ORDER BY 1, 2 DESC") == [
        ("e1", "temperature", 20.5),
        ("e1", "pH", 8.0),
        ("e2", "pH", 6.0),
    ]


def test_a_file_of_keys_only(any_imports, tmp_path):
    any_imports.declare(
        "DATASETS = [Dataset('tags', (Column('tag', nullable=False), Column('note')), key=('tag',), create=True)]"
    )
    path = workbook(tmp_path, [["a"], ["b"], ["a"]], ["Tag"])
    assert counts(any_imports.excel(path, dataset="tags")) == (3, 2, 1, 0, 0)
    assert counts(any_imports.excel(path, dataset="tags")) == (3, 0, 3, 0, 0)


def test_all_types_arrive(any_imports, tmp_path):
    header = ["Booking ID", "Customer", "Starts at", "Pax", "Price", "Paid", "Status"]
    rows = [
        ["b1", "Ann", "2024-05-01 14:30", "2", "1,234.50", "yes", "Confirmed"],
        ["b2", "Bob", "2024-05-01T14:30:00+02:00", 3, 80, "", ""],
    ]
    assert counts(any_imports.excel(workbook(tmp_path, rows, header), dataset="bookings")) == (2, 2, 0, 0, 0)
    at = "strftime('%Y-%m-%d %H:%M', starts_at)"
    if any_imports.engine.dialect.name == "postgresql":
        at = "to_char(starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')"
    assert any_imports.query(f"SELECT {at}, passengers, price, paid, status FROM bookings ORDER BY booking_id") == [
        ("2024-05-01 14:30", 2, 1234.5, True, "confirmed"),
        ("2024-05-01 12:30", 3, 80.0, None, None),
    ]


def test_json_arrives(any_imports):
    rows = [{"experiment_id": "e", "name": "n", "metrics": {"power": [1, 2.5, None], "unit": "µW"}}]
    any_imports.rows(rows, dataset="experiments")
    path = "metrics ->> 'unit'"
    assert any_imports.query(f"SELECT {path} FROM experiments") == [("µW",)]


def test_headers_in_other_spellings_and_a_mapping(any_imports, tmp_path):
    path = workbook(tmp_path, [["a", "A", "x", "not it"]], ["NAME", "Meaning", "Main-Category", "definition"])
    result = any_imports.excel(path, mapping={"Meaning": "definition"})
    assert result["ignored_columns"] == ["definition"]
    assert any_imports.query("SELECT term, definition, category FROM terms") == [("a", "A", "x")]


# -- rejects ----------------------------------------------------------------------------------------------------


def test_the_report_tells_row_column_reason_and_value(any_imports, tmp_path):
    rows = [
        ["a", "A", "", "soon"],
        ["", "", "", 1950],
        [],
        ["b", "B", "", 12],
        ["c", "C", "", 1950],
        ["d" * 300, "D", "", ""],
    ]
    result = any_imports.excel(workbook(tmp_path, rows), batch_size=2)
    assert counts(result) == (5, 1, 0, 0, 4)
    assert any_imports.report(result["report_file_id"]) == [
        {"row": "2", "column": "year_introduced", "reason": "is not a whole number", "value": "soon"},
        {"row": "3", "column": "term", "reason": "is empty, but must have a value", "value": ""},
        {"row": "3", "column": "definition", "reason": "is empty, but must have a value", "value": ""},
        {
            "row": "5",
            "column": "year_introduced",
            "reason": "is below 1,600, the smallest value allowed",
            "value": "12",
        },
        {
            "row": "7",
            "column": "term",
            "reason": "has 300 characters, at most 200 are allowed",
            "value": "d" * 199 + "…",
        },
    ]
    assert any_imports.query("SELECT count(*) FROM import_rejects") == [(0,)]


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1x", "@SUM(A1)", "\t=1", " =1", "|cmd"])
def test_the_report_runs_no_formula(imports, value):
    result = imports.rows([{"term": "a", "definition": "A", "year_introduced": value}], dataset="terms")
    (reject,) = imports.report(result["report_file_id"])
    assert reject["value"].startswith("'")
    assert reject["value"].endswith(value.strip())


def test_on_error_fail_stops_at_the_first_and_keeps_the_batches_before(any_imports, tmp_path):
    rows = [["a", "A", "", ""], ["b", "B", "", ""], ["c", "C", "", ""], ["d", "D", "", "soon"], ["", "", "", ""]]
    with pytest.raises(PermanentError, match=r"Row 5: year_introduced is not a whole number \(value: 'soon'\)"):
        any_imports.excel(workbook(tmp_path, rows), on_error="fail", batch_size=2)
    assert any_imports.query("SELECT term FROM terms ORDER BY 1") == [("a",), ("b",)]


def test_too_many_rejects_stop_the_import_and_are_reported(any_imports, tmp_path):
    rows = [["a", "", "", ""], ["b", "B", "", ""], ["c", "", "", ""], ["d", "", "", ""], ["e", "E", "", ""]]
    path = workbook(tmp_path, rows)
    with pytest.raises(PermanentError, match=r"3 rows were rejected by row 5, more than max_rejects \(2\)") as caught:
        any_imports.excel(path, max_rejects=2, batch_size=2)
    assert [reject["row"] for reject in any_imports.report(caught.value.extra["report_file_id"])] == ["2", "4", "5"]
    assert counts(any_imports.excel(path, max_rejects=3, batch_size=2)) == (5, 1, 1, 0, 3)


@pytest.mark.parametrize("conflict", ["update", "skip", "fail"])
def test_what_only_the_database_knows_rejects_one_row(any_imports, tmp_path, conflict):
    any_imports.execute("CREATE UNIQUE INDEX one_mail ON users (email)")
    rows = [[f"u{number}", f"{number}@example.org"] for number in range(6)]
    rows[3][1] = "1@example.org"
    result = any_imports.excel(
        workbook(tmp_path, rows, ["user_id", "email"]), dataset="users", batch_size=4, conflict=conflict
    )
    assert counts(result) == (6, 5, 0, 0, 1)
    (reject,) = any_imports.report(result["report_file_id"])
    assert reject["row"] == "5"
    assert "the database refused" in reject["reason"]
    assert any_imports.query("SELECT count(*) FROM users") == [(5,)]


# -- own datasets -----------------------------------------------------------------------------------------------


def test_a_dataset_over_a_table_of_the_product(any_imports, tmp_path):
    any_imports.execute('CREATE TABLE "Products" (sku VARCHAR(5) PRIMARY KEY, price NUMERIC(8, 2), added TIMESTAMP)')
    any_imports.declare(
        "DATASETS = [Dataset('products', (Column('sku', nullable=False, aliases=('article',)),"
        " Column('price', ColumnType.NUMBER), Column('added', ColumnType.DATETIME)), key=('sku',), table='Products')]"
    )
    path = workbook(tmp_path, [["a", 2.5, "2024-05-01 12:00"], ["b", 3, ""]], ["Article", "Price", "Added"])
    assert counts(any_imports.excel(path, dataset="products")) == (2, 2, 0, 0, 0)
    assert [float(price) for (price,) in any_imports.query('SELECT price FROM "Products" ORDER BY sku')] == [2.5, 3.0]


def test_a_dataset_without_its_table(any_imports, tmp_path):
    any_imports.declare("DATASETS = [Dataset('mine', (Column('id', nullable=False),), key=('id',))]")
    with pytest.raises(PermanentError, match="has no table 'mine'"):
        any_imports.excel(workbook(tmp_path, [["a"]], ["id"]), dataset="mine")


# -- rows in the request ----------------------------------------------------------------------------------------


def test_rows_of_a_request(any_imports):
    any_imports.execute("INSERT INTO terms (term, definition, category) VALUES ('a', 'old', 'kept')")
    rows = [
        {"term": "a", "definition": "A", "colour": "red"},
        {"term": "b", "definition": "B", "category": "x", "year_introduced": 1950},
        {"definition": "C"},
        {"term": "d", "definition": "D", "year_introduced": "soon"},
    ]
    result = any_imports.rows(rows, dataset="terms")
    assert counts(result) == (4, 1, 1, 0, 2)
    assert result["ignored_columns"] == ["colour"]
    assert [(reject["row"], reject["column"]) for reject in any_imports.report(result["report_file_id"])] == [
        ("3", "term"),
        ("4", "year_introduced"),
    ]
    assert any_imports.query(ALL) == [("a", "A", "kept", None), ("b", "B", "x", 1950)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "words"}, "no dataset 'words'"),
        ({"dataset": "terms", "on_error": "fail"}, "Row 1: definition is empty"),
        ({"dataset": "terms", "max_rejects": 0}, "more than max_rejects"),
    ],
)
def test_rows_of_a_request_that_cannot_be(imports, options, message):
    with pytest.raises(PermanentError, match=message):
        imports.rows([{"term": "a"}], **options)


# -- progress and steering --------------------------------------------------------------------------------------


def test_progress_by_rows(imports, tmp_path, monkeypatch):
    monkeypatch.setattr("shared.context.PROGRESS_INTERVAL_S", 0)
    port = FakePort()
    path = workbook(tmp_path, [[f"t{number}", "x", "", ""] for number in range(100)])
    imports.excel(path, batch_size=25, job=imports.job(port=port))
    reports = [(percent, data) for percent, _, data in port.reports if "rows" in data]
    assert [(percent, data["rows"], data["total"]) for percent, data in reports] == [
        (25.0, 25, 100),
        (50.0, 50, 100),
        (75.0, 75, 100),
        (99.0, 100, 100),
        (100.0, 100, 100),
    ]
    assert all(data["rows_per_s"] > 0 and data["remaining_s"] >= 0 for _, data in reports)


def test_progress_of_a_csv_file(imports, tmp_path, monkeypatch):
    monkeypatch.setattr("shared.context.PROGRESS_INTERVAL_S", 0)
    port = FakePort()
    path = files.csv(tmp_path / "a.csv", [["term", "definition"], *([f"t{n}", "x" * 5_000] for n in range(100))])
    imports.excel(path, batch_size=25, job=imports.job(port=port))
    percents = [percent for percent, _, _ in port.reports]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert any(10 < percent < 90 for percent in percents)


def test_a_cancelled_job_stops_between_batches_and_can_go_on(any_imports, tmp_path, monkeypatch):
    monkeypatch.setattr("shared.context.PROGRESS_INTERVAL_S", 0)
    port = FakePort(lambda: LeaseStatus.HELD if len(port.reports) < 3 else LeaseStatus.CANCEL_REQUESTED)
    file_id = any_imports.store(workbook(tmp_path, [[f"t{number}", "x", "", ""] for number in range(100)]))
    with pytest.raises(JobCancelled):
        any_imports.stored(file_id, batch_size=10, job=JobContext(port, job_id="q.1"))
    ((before,),) = any_imports.query("SELECT count(*) FROM terms")
    assert 0 < before < 100
    assert counts(any_imports.stored(file_id, batch_size=10, job=any_imports.job("q.1", 2))) == (100, 100, 0, 0, 0)


def test_cancelling_while_the_workbook_is_parsed(imports, tmp_path, monkeypatch):
    # The process is frozen before it answers, so that only the wait for it can notice.
    monkeypatch.setattr("shared.context.CANCEL_CHECK_INTERVAL_S", 0)
    monkeypatch.setattr("services.workers.families.imports.workbook._MODULE", "tests.families.imports.silent_process")
    port = FakePort(lambda: LeaseStatus.CANCEL_REQUESTED)
    with pytest.raises(JobCancelled):
        imports.excel(workbook(tmp_path, [["a", "A", "", ""]]), job=JobContext(port, job_id="q.1"))


def test_a_reader_that_is_killed_is_worth_another_attempt(imports, tmp_path, monkeypatch):
    monkeypatch.setattr("services.workers.families.imports.workbook._MODULE", "tests.families.imports.killed_process")
    with pytest.raises(RetryableError, match="ended from outside"):
        imports.excel(workbook(tmp_path, [["a", "A", "", ""]]))


# -- the database fails -----------------------------------------------------------------------------------------


def test_a_database_that_fails_is_worth_another_attempt(any_imports, tmp_path, monkeypatch):
    path = workbook(tmp_path, [["a", "A", "", ""]])

    def broken(*_):
        raise OperationalError("INSERT secret", {"secret": 1}, Exception("disk full"), hide_parameters=True)

    monkeypatch.setattr(run_module, "writer_for", broken)
    with pytest.raises(RetryableError, match="disk full") as caught:
        any_imports.excel(path)
    assert "secret" not in caught.value.detail


def test_a_database_that_is_not_there(imports, tmp_path):
    path = workbook(tmp_path, [["a", "A", "", ""]])
    imports.settings = type(imports.settings).model_validate(
        {"data_dir": imports.settings.data_dir, "database_url_override": "postgresql://user:hunter2@127.0.0.1:1/x"}
    )
    with pytest.raises(RetryableError) as caught:
        imports.excel(path)
    assert "hunter2" not in str(caught.value)
