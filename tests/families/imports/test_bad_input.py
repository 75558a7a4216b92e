"""What cannot be imported is refused for good, with a message that says what to change."""

import struct
import zipfile
import zlib

import pytest

from shared.errors import PermanentError
from tests.families.imports import files

TERMS = [["term", "definition"], ["a", "A"]]


def refused(imports, path, **options):
    with pytest.raises(PermanentError) as caught:
        imports.excel(path, **options)
    assert imports.query("SELECT count(*) FROM terms") == [(0,)]
    return caught.value.detail


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The file is empty"),
        (b" \r\n\r\n", "The file is empty"),
        (b"\xef\xbb\xbf", "The file is empty"),
        (b"%PDF-1.7 ...", "is a PDF document, not a workbook"),
        (b"\x89PNG\r\n\x1a\n....", "is a PNG picture"),
        (b"\x1f\x8b\x08\x00....", "is a gzip archive"),
        (b"\x00\x01\x02\x03\x04 binary", "is not a workbook. Accepted are xlsx, xls, xlsb, ods and csv"),
        (b"<html><table><tr><td>term</td></tr></table></html>", "only bears the name of a workbook"),
        (b'<?xml version="1.0"?><Workbook/>', "only bears the name of a workbook"),
        (b"PK\x05\x06" + bytes(18), "an empty archive"),
        (b"PK\x03\x04 and nothing more", "damaged"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "damaged"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "WordDocument".encode("utf-16-le"),
            "another Office document, not a workbook",
        ),
        (b"just some words", "lacks the columns 'term', 'definition'"),
    ],
)
def test_no_workbook_at_all(imports, tmp_path, content, message):
    path = tmp_path / "a.xlsx"
    path.write_bytes(content)
    assert message in refused(imports, path)


def test_a_zip_that_is_no_workbook(imports, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "zip archive, but not a workbook" in refused(imports, tmp_path / "a.xlsx")


def test_an_encrypted_workbook(imports, tmp_path):
    plain = files.xlsx(tmp_path / "plain.xlsx", TERMS)
    assert "is encrypted: save it without a password" in refused(imports, files.encrypted(tmp_path / "a.xlsx", plain))


def test_an_encrypted_archive(imports, tmp_path):
    content = bytearray(files.xlsx(tmp_path / "plain.xlsx", TERMS).read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1
    (tmp_path / "a.xlsx").write_bytes(content)
    assert "is encrypted" in refused(imports, tmp_path / "a.xlsx")


@pytest.mark.parametrize("kind", files.WORKBOOKS)
def test_a_workbook_that_is_cut_off(imports, tmp_path, kind):
    content = files.WORKBOOKS[kind](tmp_path / f"whole.{kind}", TERMS * 200).read_bytes()
    (tmp_path / "a").write_bytes(content[: len(content) // 2])
    assert "damaged" in refused(imports, tmp_path / "a")


def test_an_empty_sheet(imports, tmp_path):
    path = files.xlsx(tmp_path / "a.xlsx", [], "Nothing", more=[("Terms", TERMS)])
    assert refused(imports, path) == "Sheet 'Nothing' is empty."


def test_a_sheet_that_is_not_there(imports, tmp_path):
    path = files.xlsx(tmp_path / "a.xlsx", TERMS, "First", more=[("Second", TERMS)])
    assert refused(imports, path, sheet="Third") == "There is no sheet 'Third'. Sheets: 'First', 'Second'."
    assert "There is no sheet 2 (counted from 0). Sheets: 'First', 'Second'." in refused(imports, path, sheet=2)
    assert "There is no sheet -1" in refused(imports, path, sheet=-1)


def test_a_sheet_of_a_csv_file(imports, tmp_path):
    assert "a csv file has no sheets" in refused(imports, files.csv(tmp_path / "a", TERMS), sheet="First").lower()


@pytest.mark.parametrize("make", [files.xlsx, files.csv])
def test_a_header_row_beyond_the_end(imports, tmp_path, make):
    assert "row 9 (header_row) cannot hold" in refused(imports, make(tmp_path / "a.xlsx", TERMS), header_row=9)


def test_a_header_row_that_is_empty(imports, tmp_path):
    path = files.xlsx(tmp_path / "a.xlsx", [[], *TERMS])
    assert "Row 1 (header_row) is empty" in refused(imports, path)


def test_a_missing_column_names_it_and_those_that_are_there(imports, tmp_path):
    path = files.xlsx(tmp_path / "a.xlsx", [["Term", "Meaning"], ["a", "A"]])
    detail = refused(imports, path)
    assert "lacks the column 'definition' that dataset 'terms' needs" in detail
    assert "Columns in the file: 'Term', 'Meaning'." in detail


def test_two_headers_that_mean_the_same(imports, tmp_path):
    path = files.xlsx(tmp_path / "a.xlsx", [["Term", "Definition", "x", "TERM"], ["a", "A", "", "b"]])
    assert "Columns A ('Term') and D ('TERM') both mean 'term'" in refused(imports, path)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (
            {"Meaning": "definition"},
            "'Meaning', which the file does not have. Columns in the file: 'term', 'definition'",
        ),
        ({"term": "word"}, "to 'word', which dataset 'terms' does not have. Its columns: term, definition"),
    ],
)
def test_a_mapping_to_or_from_nowhere(imports, tmp_path, mapping, message):
    assert message in refused(imports, files.xlsx(tmp_path / "a.xlsx", TERMS), mapping=mapping)


def test_no_such_dataset(imports, tmp_path):
    detail = refused(imports, files.xlsx(tmp_path / "a.xlsx", TERMS), dataset="words")
    assert detail == ("There is no dataset 'words'. Datasets: bookings, experiments, papers, parameters, terms, users.")


@pytest.mark.parametrize("file_id", ["file_01ARZ3NDEKTSV4RRFFQ69G5FAV", "../../etc/passwd"])
def test_a_file_that_is_not_stored(imports, file_id):
    with pytest.raises(PermanentError, match="file"):
        imports.stored(file_id)


# -- files that would cost too much -----------------------------------------------------------------------------


def bomb(path, size):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        with archive.open("xl/worksheets/sheet1.xml", "w") as part:
            for _ in range(size // 2**20):
                part.write(bytes(2**20))
    return path


def test_a_zip_bomb(imports, tmp_path):
    assert "looks like a zip bomb" in refused(imports, bomb(tmp_path / "a.xlsx", 64 * 2**20))


def test_a_workbook_over_the_size_limit(make_imports, tmp_path):
    imports = make_imports(max_uncompressed_bytes=10_000)
    assert "IMPORTS_MAX_UNCOMPRESSED_BYTES" in refused(imports, files.xlsx(tmp_path / "a.xlsx", TERMS * 2_000))


def test_a_part_that_is_larger_than_it_says(imports, tmp_path):
    path = bomb(tmp_path / "a.xlsx", 4 * 2**20)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    struct.pack_into("<I", content, at + 24, 1_000)  # declared size
    path.write_bytes(content)
    assert "smaller than it is" in refused(imports, path)


def test_an_unusual_way_of_packing(imports, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    assert "method 14" in refused(imports, tmp_path / "a.xlsx")


def test_thousands_of_parts(imports, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        for number in range(10_001):
            archive.writestr(f"xl/{number}", "")
    assert "10001 files" in refused(imports, tmp_path / "a.xlsx")


def test_billion_laughs(imports, tmp_path):
    plain = files.xlsx(tmp_path / "plain.xlsx", TERMS)
    laughs = b'<!DOCTYPE x [<!ENTITY a "ha">' + b"".join(
        f'<!ENTITY a{number} "{f"&a{number - 1 or str()};" * 10}">'.encode() for number in range(1, 10)
    ) + b"]>"  # fmt: skip
    path = files.edited(
        tmp_path / "a.xlsx", plain, files.in_sheet(lambda xml: xml.replace(b"<worksheet", laughs + b"<worksheet"))
    )
    assert "XML with a document type" in refused(imports, path)


def test_a_cell_at_the_far_end_of_the_sheet(make_imports, tmp_path):
    imports = make_imports(reader_memory_bytes=512 * 2**20)
    plain = files.xlsx(tmp_path / "plain.xlsx", TERMS)
    stray = b'<row r="1048576"><c r="XFD1048576"><v>5</v></c></row></sheetData>'
    path = files.edited(tmp_path / "a.xlsx", plain, files.in_sheet(lambda xml: xml.replace(b"</sheetData>", stray)))
    assert "cannot be parsed within 512 MiB" in refused(imports, path)


def test_a_shared_string_count_without_end(imports, tmp_path):
    # This one ends a process that has python-calamine in it, which is why it has one of its own.
    plain = files.xlsx(tmp_path / "plain.xlsx", TERMS)
    path = files.edited(
        tmp_path / "a.xlsx",
        plain,
        lambda name, xml: xml.replace(b'uniqueCount="', b'uniqueCount="999999999999') if "shared" in name else xml,
    )
    assert "cannot be parsed within" in refused(imports, path)


def test_parsing_without_end(make_imports, tmp_path):
    imports = make_imports(reader_cpu_s=1)
    plain = files.xlsx(tmp_path / "plain.xlsx", TERMS)
    # Random numbers in the rows, so that the archive stays below the ratio of a bomb.
    cells = b"".join(
        b'<row r="%d"><c r="A%d"><v>%d</v></c></row>' % (row, row, zlib.crc32(b"%d" % row)) for row in range(3, 900_000)
    )
    path = files.edited(
        tmp_path / "a.xlsx", plain, files.in_sheet(lambda xml: xml.replace(b"</sheetData>", cells + b"</sheetData>"))
    )
    with pytest.raises(PermanentError, match="more than 1 s of processor time"):
        imports.excel(path, batch_size=10_000, max_rejects=None, conflict="skip")
