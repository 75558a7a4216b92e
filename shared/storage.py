"""Object storage for uploaded and produced files: a local folder by default."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from ulid import ULID

from shared.config import Settings
from shared.errors import FileNotStored, FileTooLarge

_FILE_ID = re.compile(r"file_[0-9A-HJKMNP-TV-Z]{26}")
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What is known of a stored file."""

    #: ``file_<ULID>``
    id: str
    #: name that its uploader gave, without any folder
    name: str
    size_bytes: int
    content_type: str
    #: of the content, hex
    sha256: str
    created_ms: int


class Storage(Protocol):
    """Where files are kept."""

    def save(
        self,
        source: BinaryIO,
        *,
        name: str,
        content_type: str = "application/octet-stream",
        limit_bytes: int | None = None,
    ) -> StoredFile:
        """Store a stream, never holding it in memory whole.

        Raises:
            FileTooLarge: when it is longer than the limit; nothing is kept of it.
        """
        ...

    def stat(self, file_id: str) -> StoredFile:
        """Describe a file.

        Raises:
            FileNotStored
        """
        ...

    def open(self, file_id: str) -> BinaryIO:
        """Open a file for reading, seekable.

        Raises:
            FileNotStored
        """
        ...

    def local_path(self, file_id: str) -> Path:
        """Give a path under which the content can be read on this machine.

        Raises:
            FileNotStored
        """
        ...

    def delete(self, file_id: str) -> None:
        """Delete a file; does nothing when it is not there."""
        ...


class LocalStorage:
    """Files in a folder: ``<root>/<id>/content`` with ``meta.json`` beside it.

    A file appears under its id only when it is whole: it is written beside and renamed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def save(
        self,
        source: BinaryIO,
        *,
        name: str,
        content_type: str = "application/octet-stream",
        limit_bytes: int | None = None,
    ) -> StoredFile:
        """See :meth:`Storage.save`."""
        with self.writer(name=name, content_type=content_type, limit_bytes=limit_bytes) as writer:
            for chunk in iter(lambda: source.read(_CHUNK), b""):
                writer.write(chunk)
            return writer.commit()

    def writer(
        self, *, name: str, content_type: str = "application/octet-stream", limit_bytes: int | None = None
    ) -> LocalWriter:
        """Start a file that is written piece by piece."""
        return LocalWriter(self._root, name=name, content_type=content_type, limit_bytes=limit_bytes)

    def stat(self, file_id: str) -> StoredFile:
        """See :meth:`Storage.stat`."""
        try:
            return StoredFile(**json.loads((self._folder(file_id) / "meta.json").read_text()))
        except FileNotFoundError:
            raise FileNotStored(f"There is no file {file_id!r}: upload it first (POST /api/v1/files).") from None

    def open(self, file_id: str) -> BinaryIO:
        """See :meth:`Storage.open`."""
        return self.local_path(file_id).open("rb")

    def local_path(self, file_id: str) -> Path:
        """See :meth:`Storage.local_path`."""
        self.stat(file_id)
        return self._folder(file_id) / "content"

    def delete(self, file_id: str) -> None:
        """See :meth:`Storage.delete`."""
        folder = self._folder(file_id)
        gone = self._root / f".part-{secrets.token_hex(8)}"
        try:
            # Out of sight first, so that nobody opens half a file.
            folder.rename(gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)

    def _folder(self, file_id: str) -> Path:
        # The id becomes a path, so nothing but an id may pass.
        if not _FILE_ID.fullmatch(file_id):
            raise FileNotStored(f"{file_id!r} is not a file id: file ids look like 'file_01ARZ3NDEKTSV4RRFFQ69G5FAV'.")
        return self._root / file_id


class LocalWriter:
    """A file on its way into :class:`LocalStorage`. Leaving the context without a commit drops it."""

    def __init__(self, root: Path, *, name: str, content_type: str, limit_bytes: int | None) -> None:
        self._root = root
        self._name = Path(name.replace("\\", "/")).name[:255] or "unnamed"
        self._content_type = content_type
        self._limit = limit_bytes
        self._size = 0
        self._digest = hashlib.sha256()
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._part = root / f".part-{secrets.token_hex(8)}"
        self._part.mkdir(mode=0o700)
        self._out = (self._part / "content").open("wb")

    def __enter__(self) -> LocalWriter:
        return self

    def __exit__(self, *_exc: object) -> None:
        try:
            self._out.close()
        finally:
            if self._part.exists():
                shutil.rmtree(self._part, ignore_errors=True)

    def write(self, chunk: bytes) -> None:
        """Append to the file.

        Raises:
            FileTooLarge: when that passes the limit.
        """
        self._size += len(chunk)
        if self._limit is not None and self._size > self._limit:
            raise FileTooLarge(f"The file is larger than the limit of {self._limit} bytes.", limit_bytes=self._limit)
        self._digest.update(chunk)
        self._out.write(chunk)

    def commit(self) -> StoredFile:
        """Make the file appear under its id."""
        self._out.flush()
        os.fsync(self._out.fileno())
        self._out.close()
        stored = StoredFile(
            id=f"file_{ULID()}",
            name=self._name,
            size_bytes=self._size,
            content_type=self._content_type,
            sha256=self._digest.hexdigest(),
            created_ms=int(time.time() * 1000),
        )
        with (self._part / "meta.json").open("w") as meta:
            meta.write(json.dumps(asdict(stored)))
            meta.flush()
            os.fsync(meta.fileno())
        self._part.rename(self._root / stored.id)
        _sync_folder(self._root)
        return stored


def _sync_folder(folder: Path) -> None:
    # The rename itself must survive a power cut too, or the answer that named the file would be a lie.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_storage(settings: Settings) -> LocalStorage:
    """Give the storage that the settings name."""
    return LocalStorage(settings.storage_dir)
