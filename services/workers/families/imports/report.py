"""The report of rejected rows: a csv file that opens in any spreadsheet program."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from services.workers.families.imports.validation import Reject
from shared.storage import Storage

if TYPE_CHECKING:
    import pandas as pd

#: a spreadsheet program takes a cell that starts so for a formula, and would run what the uploader wrote
_FORMULA = r"^\s*[=+\-@|%]|^[\t\r\n]"
_COLUMNS = ["row", "column", "reason", "value"]


def store_report(storage: Storage, name: str, mistakes: Iterable[Sequence[Reject]]) -> str | None:
    """Write the report and store it.

    Args:
        storage: where it goes.
        name: name of the imported file; the report's is made from it.
        mistakes: rejects in the order of their rows, in pieces of any size.

    Returns:
        id of the stored file, None when there is nothing to report.
    """
    pieces = iter(mistakes)
    first = next(pieces, None)
    if not first:
        return None
    with tempfile.TemporaryFile("w+b") as file:
        file.write(b"\xef\xbb\xbf")  # makes Excel read UTF-8
        for number, piece in enumerate(chain([first], pieces)):
            text = _frame(piece).to_csv(index=False, header=number == 0, lineterminator="\r\n")
            file.write(text.encode())
        file.seek(0)
        stem = name.rsplit(".", 1)[0] or "import"
        return storage.save(file, name=f"{stem}-rejects.csv", content_type="text/csv; charset=utf-8").id


def _frame(mistakes: Sequence[Reject]) -> pd.DataFrame:
    # Loaded here: it takes half a second and 60 MB, and most imports have nothing to report.
    import pandas as pd

    frame = pd.DataFrame(
        [(reject.row_number, reject.column, reject.reason, reject.value) for reject in mistakes], columns=_COLUMNS
    )
    formula = frame["value"].str.contains(_FORMULA, regex=True)
    frame["value"] = frame["value"].where(~formula, "'" + frame["value"])
    return frame
