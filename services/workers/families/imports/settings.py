"""Bounds of the imports family."""

from __future__ import annotations

from functools import lru_cache

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.config import FamilySettings


class ImportSettings(FamilySettings):
    """What a file may cost before it is refused."""

    model_config = SettingsConfigDict(env_prefix="IMPORTS_")

    #: memory that the process which parses a workbook may take, bytes (1,000,000 rows × 20 columns take about 2 GiB)
    reader_memory_bytes: int = Field(4 * 1024**3, ge=64 * 1024**2)
    #: processor time that parsing one workbook may take, seconds
    reader_cpu_s: int = Field(900, ge=1)
    #: size of a workbook's content once it is decompressed, bytes
    max_uncompressed_bytes: int = Field(2 * 1024**3, ge=1)
    #: how many times larger than its archive the content may be; real sheets stay below about 60
    max_compression_ratio: int = Field(200, ge=1)
    #: days that the checkpoint of an import is kept for a retry or a repeated reply
    keep_checkpoints_days: int = Field(30, ge=1)


@lru_cache(maxsize=1)
def load_import_settings() -> ImportSettings:
    """Read the environment once; later calls return the same object."""
    return ImportSettings()
