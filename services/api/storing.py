"""Errors of the disk, told from errors of the connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from shared.errors import RetryableError

_log = structlog.get_logger(__name__)


class StorageUnavailable(RetryableError):
    """Files cannot be stored right now: the disk is full or does not answer."""

    code = "storage-unavailable"
    status = 507


@contextmanager
def storing() -> Iterator[None]:
    """Translate what goes wrong with the disk.

    Raises:
        StorageUnavailable
    """
    try:
        yield
    except OSError as error:
        # The text names a path of this machine, which is for the log and not for clients.
        _log.error("storage unavailable", exc_info=error)
        raise StorageUnavailable(retry_after_s=30) from error
