"""A number that several processes share."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_NUMBER = struct.Struct("d")


class Dial:
    """A number in a file; whoever has it open sees a change at once.

    Args:
        path: the file, made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_NUMBER.pack(0.0))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _NUMBER.size)

    def read(self) -> float:
        return float(_NUMBER.unpack_from(self._memory)[0])

    def turn(self, value: float) -> None:
        _NUMBER.pack_into(self._memory, 0, value)
