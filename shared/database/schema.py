"""The whole schema as it is declared, to compare with what the migrations make."""

from __future__ import annotations

from sqlalchemy import MetaData

from shared.database.datasets.builtin import DATASETS
from shared.database.datasets.tables import table_of
from shared.database.models import metadata


def declared_schema() -> MetaData:
    """Give Callboard's own tables and those of the shipped datasets."""
    declared = MetaData()
    for table in metadata.tables.values():
        table.to_metadata(declared)
    for dataset in DATASETS:
        table_of(dataset, declared)
    return declared
