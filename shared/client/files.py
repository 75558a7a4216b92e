"""Files on their way to the server."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from typing import BinaryIO

#: bytes that are held in memory at once
CHUNK_BYTES = 256 * 1024

#: called with the bytes sent or received so far and their number in all, None where that is not known
OnBytes = Callable[[int, int | None], object]


def file_size(file: BinaryIO) -> int | None:
    """Give the size of an open file; None for a pipe, which has none."""
    info = os.fstat(file.fileno())
    return info.st_size if stat.S_ISREG(info.st_mode) else None


def file_chunks(file: BinaryIO, size: int | None, on_progress: OnBytes | None) -> Iterable[bytes]:
    """Read a file from its beginning, in chunks, and no further than its announced size.

    Raises:
        OSError: when it became shorter meanwhile. One that grows is sent as it was when it was opened.
    """
    if size is not None:
        file.seek(0)
    sent = 0
    while chunk := file.read(CHUNK_BYTES if size is None else min(CHUNK_BYTES, size - sent)):
        yield chunk
        sent += len(chunk)
        if on_progress:
            on_progress(sent, size)
    if size is not None and sent < size:
        raise OSError(f"the file became shorter while it was sent: {sent} of {size} bytes are left")
