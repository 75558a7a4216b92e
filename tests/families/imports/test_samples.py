"""The sample files import as the documents say."""

from pathlib import Path

from tests.families.imports.harness import counts

SAMPLES = Path(__file__).parents[3] / "samples"


def test_the_glossary_imports_whole(imports):
    result = imports.excel(SAMPLES / "terms.xlsx")
    read, *others = counts(result)
    assert read >= 200
    assert others == [read, 0, 0, 0]
    assert result["ignored_columns"] == []
    assert imports.query("SELECT count(*) FROM terms WHERE category IS NULL OR short_definition IS NULL") == [(0,)]


def test_every_related_term_is_in_the_glossary(imports):
    imports.excel(SAMPLES / "terms.xlsx")
    stored = imports.query("SELECT term, related_terms FROM terms")
    known = {term.casefold() for term, _ in stored}
    related = {name.strip() for _, names in stored for name in (names or "").split(";") if name.strip()}
    assert {name for name in related if name.casefold() not in known} == set()


def test_the_mistakes_are_reported(imports):
    result = imports.excel(SAMPLES / "terms-with-mistakes.xlsx")
    assert counts(result) == (8, 5, 0, 0, 3)
    assert [(reject["row"], reject["column"]) for reject in imports.report(result["report_file_id"])] == [
        ("4", "definition"),
        ("6", "difficulty"),
        ("9", "year_introduced"),
    ]


def test_the_papers_import_whole(imports):
    assert counts(imports.excel(SAMPLES / "papers.csv", dataset="papers")) == (10, 10, 0, 0, 0)
