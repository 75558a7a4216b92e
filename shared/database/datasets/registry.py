"""Every dataset that is declared: those that come with Callboard and those of a user's own files."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from shared.database.datasets.builtin import DATASETS
from shared.database.datasets.declaration import Dataset
from shared.errors import ContractError


def load_datasets(path: Path | None = None) -> Mapping[str, Dataset]:
    """Give all datasets by name.

    Args:
        path: a Python file, or a folder of them, each with ``DATASETS = [Dataset(...), ...]``; what
            ``CALLBOARD_DATASETS`` names.

    Raises:
        ContractError: when a file cannot be loaded, or declarations contradict each other; the message says which
            file and what to change.
    """
    origin = {dataset.name: "Callboard itself" for dataset in DATASETS}
    found = {dataset.name: dataset for dataset in DATASETS}
    for file in _files(path):
        for dataset in _declared_in(file):
            if dataset.name in found:
                raise ContractError(
                    f"{file.name} declares dataset {dataset.name!r}, which {origin[dataset.name]} declares too: "
                    "rename one (two datasets may share a table)."
                )
            _check_shared_table(dataset, found.values(), file)
            found[dataset.name], origin[dataset.name] = dataset, file.name
    return MappingProxyType(found)


def _files(path: Path | None) -> list[Path]:
    if path is None:
        return []
    if path.is_dir():
        files = sorted(file for file in path.glob("*.py") if not file.name.startswith("_"))
        if not files:
            raise ContractError(f"CALLBOARD_DATASETS names the folder {path}, which has no .py file: add one.")
        return files
    if not path.is_file():
        raise ContractError(f"CALLBOARD_DATASETS names {path}, which is not there: correct it or unset it.")
    return [path]


def _declared_in(file: Path) -> Iterable[Dataset]:
    spec = importlib.util.spec_from_file_location(f"callboard_datasets_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ContractError(f"{file} is not a Python file: CALLBOARD_DATASETS names .py files.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ContractError as error:
        raise ContractError(f"{file.name}: {error.detail}") from None
    except Exception as error:
        raise ContractError(f"{file.name} cannot be loaded: {type(error).__name__}: {error}") from error
    declared = getattr(module, "DATASETS", None)
    if not isinstance(declared, (list, tuple)) or not all(isinstance(item, Dataset) for item in declared):
        raise ContractError(f"{file.name} has no DATASETS = [Dataset(...), ...]: add it.")
    return declared


def _check_shared_table(dataset: Dataset, others: Iterable[Dataset], file: Path) -> None:
    for other in others:
        if other.table != dataset.table:
            continue
        for column in dataset.columns:
            known = other.column(column.name)
            if known is not None and known.type is not column.type:
                raise ContractError(
                    f"{file.name}: column {column.name!r} of table {dataset.table!r} is {column.type} in dataset "
                    f"{dataset.name!r} but {known.type} in {other.name!r}: make them the same."
                )
