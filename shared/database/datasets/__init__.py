"""Datasets: the tables that imports write and exports read, each declared once."""

from shared.database.datasets.declaration import Column, ColumnType, Dataset, normalise_header
from shared.database.datasets.registry import load_datasets

__all__ = ["Column", "ColumnType", "Dataset", "load_datasets", "normalise_header"]
