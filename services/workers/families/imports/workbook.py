"""Workbooks (xlsx, xlsb, xls, ods), parsed in a process of their own; see :mod:`.workbook_process`."""

from __future__ import annotations

import datetime
import fcntl
import io
import json
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from services.workers.families.imports.formats import FileFormat
from services.workers.families.imports.settings import ImportSettings
from services.workers.families.imports.source import RowBatch, Waiting
from shared.errors import PermanentError, RetryableError

_MODULE = "services.workers.families.imports.workbook_process"
#: how often ``waiting`` is called while the process parses, seconds
_WAIT_S = 0.25
#: lets the process run ahead of the worker by some frames (Linux; elsewhere a pipe holds 64 KiB)
_PIPE_BYTES = 1024 * 1024
_HEADER = struct.Struct(">I")


class WorkbookSource:
    """One sheet of a workbook. Implements :class:`.source.RowSource`.

    Args:
        path: the file.
        file_format: what :func:`.formats.detect` said.
        sheet: name or index from 0; None for the first.
        header_row: row with the column names, counted from 1.
        settings: bounds of the parsing process.
        waiting: called several times a second while the workbook is parsed.

    Raises:
        PermanentError: the workbook cannot be read, or has no such sheet or row.
        RetryableError: the parsing process was ended from outside.
    """

    def __init__(
        self,
        path: Path,
        *,
        file_format: FileFormat,
        sheet: str | int | None,
        header_row: int,
        settings: ImportSettings,
        waiting: Waiting,
    ) -> None:
        self._settings = settings
        self._waiting = waiting
        self._folder = tempfile.TemporaryDirectory(prefix="callboard-import-")
        # The parser goes by the ending of the name, which stored files don't have.
        named = Path(self._folder.name) / f"workbook.{file_format}"
        named.symlink_to(path.absolute())
        request = {
            "path": str(named),
            "sheet": sheet,
            "header_row": header_row,
            "memory_bytes": settings.reader_memory_bytes,
            "cpu_s": settings.reader_cpu_s,
        }
        self._process = _start(json.dumps(request))
        try:
            frame = self._receive()
            _, self.sheet, self.first_column, self.last_row, self.header = frame
        except BaseException:
            self.close()
            raise

    sheet: str | None
    first_column: int
    last_row: int | None
    header: Sequence[Any]

    def batches(self, after_row: int, size: int) -> Iterator[RowBatch]:
        """See :meth:`.source.RowSource.batches`."""
        _input(self._process).write(f"{after_row} {size}\n".encode())
        _input(self._process).flush()
        while (frame := self._receive())[0] == "rows":
            yield RowBatch(first_row=frame[1], rows=frame[2])

    def close(self) -> None:
        """End the process and remove the temporary folder."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._folder.cleanup()

    def _receive(self) -> tuple[Any, ...]:
        body = self._read(_HEADER.size)
        frame: tuple[Any, ...] = _Frames(io.BytesIO(self._read(_HEADER.unpack(body)[0]))).load()
        if frame[0] == "refused":
            raise PermanentError(frame[1])
        if frame[0] == "memory":
            raise self._too_large()
        return frame

    def _read(self, size: int) -> bytearray:
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101 - opened in _start
        content = bytearray(size)
        view, filled = memoryview(content), 0
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while filled < size:
            if not poll.poll(_WAIT_S * 1000):
                self._waiting()
                continue
            count = os.readv(pipe.fileno(), [view[filled:]])
            if count == 0:
                raise self._died()
            filled += count
        return content

    def _died(self) -> Exception:
        code = self._process.wait()
        if code in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT):
            return RetryableError("The process that parses the workbook was ended from outside, perhaps for memory.")
        if code == -signal.SIGXCPU:
            return PermanentError(
                f"Parsing the workbook took more than {self._settings.reader_cpu_s} s of processor time: split it, "
                "save it as csv, or raise IMPORTS_READER_CPU_S."
            )
        return self._too_large()

    def _too_large(self) -> PermanentError:
        limit = self._settings.reader_memory_bytes // 1024**2
        return PermanentError(
            f"The workbook cannot be parsed within {limit} MiB. Either a stray cell far from the data or damage makes "
            "its sheet huge: copy the rows into a new workbook or save them as csv. Or it is that large: split it, or "
            "raise IMPORTS_READER_MEMORY_BYTES."
        )


class _Frames(pickle.Unpickler):
    """Loads rows and nothing else, should a workbook ever take over the process that parses it."""

    _ALLOWED = frozenset({"date", "datetime", "time", "timedelta"})

    def find_class(self, module: str, name: str) -> Any:
        if module == "datetime" and name in self._ALLOWED:
            return getattr(datetime, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in rows")


def _start(request: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", _MODULE, request],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        # Ctrl-C in a terminal is for the worker, which then ends this process in its own order.
        start_new_session=True,
    )
    if process.stdout is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:
            pass  # over the user's limit for pipes; slower, nothing else
    return process


def _input(process: subprocess.Popen[bytes]) -> Any:
    return process.stdin
