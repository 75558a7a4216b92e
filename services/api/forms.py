"""Reading a multipart form as it arrives: its file goes straight to storage."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from werkzeug.http import parse_options_header

from services.api.bodies import wrong_field
from services.api.errors import BadRequest
from services.api.storing import storing
from shared.errors import CallboardError
from shared.storage import LocalStorage, LocalWriter

#: what a form may hold beside the file: headers of its parts and its other fields, bytes
FORM_ALLOWANCE = 64 * 1024
_MAX_PARTS = 20


class UploadForm:
    """A form with one file.

    Args:
        storage: where the file goes.
        limit_bytes: largest file.
        stack: drops the file when it is left without a commit.
    """

    def __init__(self, storage: LocalStorage, limit_bytes: int, stack: ExitStack) -> None:
        self.writer: LocalWriter | None = None
        self._storage = storage
        self._limit_bytes = limit_bytes
        self._stack = stack
        self._fields: dict[str, bytearray] = {}
        self._parts = 0
        self._complete = False
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[str, str] = {}
        #: the part being read: the file, a field, or something without a name that is passed over
        self._part: LocalWriter | bytearray | None = None

    def read(self, boundary: str, chunks: Iterable[bytes]) -> None:
        """Take the form in.

        Raises:
            BadRequest, ValidationFailed, FileTooLarge, StorageUnavailable
        """
        try:
            parser = MultipartParser(
                boundary.encode("latin-1"),
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open_part,
                    "on_part_data": self._take,
                    "on_end": self._end,
                },
            )
            for chunk in chunks:
                parser.write(chunk)
        except CallboardError:
            raise
        except (FormParserError, UnicodeError):
            raise BadRequest("The form cannot be read: it is not valid multipart/form-data.") from None
        if not self._complete:
            raise BadRequest("The form ends in the middle: its last boundary is missing.")

    def texts(self) -> dict[str, str]:
        """Give the fields beside the file.

        Raises:
            BadRequest: when one is not UTF-8.
        """
        try:
            return {name: bytes(value).decode() for name, value in self._fields.items()}
        except UnicodeDecodeError:
            raise BadRequest("A field of the form is not UTF-8.") from None

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise BadRequest(f"The form has more than {_MAX_PARTS} parts.")
        self._headers = {}
        self._part = None

    def _end_header(self) -> None:
        name = self._header_name.decode("latin-1").lower()
        self._headers[name] = self._header_value.decode("utf-8", "replace")
        self._header_name.clear()
        self._header_value.clear()

    def _open_part(self) -> None:
        kind, parameters = parse_options_header(self._headers.get("content-disposition"))
        name = parameters.get("name", "")
        if kind != "form-data" or not name:
            return
        if name != "file":
            if "filename" in parameters:
                raise wrong_field(name, "is a file; the form takes one file, as its part 'file'")
            self._part = self._fields.setdefault(name, bytearray())
            return
        if self.writer is not None:
            raise wrong_field("file", "is there twice; send one file a request")
        if "filename" not in parameters:
            raise wrong_field("file", "is a text and not a file; with curl, write -F file=@PATH")
        content_type, _ = parse_options_header(self._headers.get("content-type"))
        with storing():
            self.writer = self._stack.enter_context(
                self._storage.writer(
                    name=clean_name(parameters["filename"]),
                    content_type=(content_type or "application/octet-stream")[:255],
                    limit_bytes=self._limit_bytes,
                )
            )
        self._part = self.writer

    def _take(self, data: bytes, start: int, end: int) -> None:
        if isinstance(self._part, LocalWriter):
            with storing():
                self._part.write(data[start:end])
        elif self._part is not None:
            if sum(map(len, self._fields.values())) + end - start > FORM_ALLOWANCE:
                raise BadRequest(f"The fields of the form are longer than {FORM_ALLOWANCE} bytes together.")
            self._part += data[start:end]

    def _end(self) -> None:
        self._complete = True


def clean_name(name: str) -> str:
    """Take out of a file's name what could forge lines or hide its ending when it is shown."""
    return "".join(character for character in name if character.isprintable())
