"""Taking files in: streamed from the connection into storage, never held in memory or spooled elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote

from flask import Flask, Response, g, request
from werkzeug.exceptions import ClientDisconnected
from werkzeug.http import parse_options_header

from services.api.errors import BadRequest
from services.api.forms import FORM_ALLOWANCE, UploadForm, clean_name
from services.api.storing import storing
from shared.errors import FileTooLarge, ValidationFailed
from shared.storage import LocalStorage, StoredFile

_CHUNK = 256 * 1024
#: an early answer is only seen by a client that is heard out; for at most this long, seconds
LINGER_S = 10.0

#: content types that say nothing of the content; the second is what curl --data-binary sends unless told otherwise
_NO_TYPES = ("", "application/x-www-form-urlencoded")


@dataclass(frozen=True, slots=True)
class Upload:
    """What came with a request."""

    file: StoredFile
    #: the other fields of the form
    fields: dict[str, str]


def receive_upload(storage: LocalStorage, limit_bytes: int) -> Upload:
    """Store the file of this request: its body, or the part ``file`` of a form.

    Raises:
        FileTooLarge: nothing of it is kept.
        BadRequest, ValidationFailed, StorageUnavailable
    """
    is_form = request.mimetype == "multipart/form-data"
    allowed = limit_bytes + (FORM_ALLOWANCE if is_form else 0)
    if (request.content_length or 0) > allowed:
        raise _too_large(limit_bytes)
    # The limit of JSON bodies is not meant for files, which are counted here as they come.
    request.max_content_length = sys.maxsize
    chunks = _chunks(allowed, limit_bytes)
    upload = _receive_form(storage, limit_bytes, chunks) if is_form else _receive_body(storage, limit_bytes, chunks)
    g.body_read = True
    return upload


def register_lingering(app: Flask) -> None:
    """Let an application hear known callers out after an early answer.

    A server that closes while the client still sends resets the connection, and the client reports that instead of
    the answer (RFC 9112, 9.6).
    """
    app.after_request(_drain)


def _drain(response: Response) -> Response:
    if response.status_code < HTTPStatus.BAD_REQUEST or "principal" not in g or g.get("body_read") or not _has_body():
        return response
    body = request.environ["wsgi.input"]

    @response.call_on_close
    def drain() -> None:
        deadline = time.monotonic() + LINGER_S
        try:
            while time.monotonic() < deadline and body.read(_CHUNK):
                pass
        except (OSError, ValueError):
            pass  # the client is gone, and its answer was sent before

    return response


def _has_body() -> bool:
    return bool(request.content_length) or _is_chunked()


def _is_chunked() -> bool:
    return "chunked" in request.environ.get("HTTP_TRANSFER_ENCODING", "").lower()


def _receive_body(storage: LocalStorage, limit_bytes: int, chunks: Iterator[bytes]) -> Upload:
    if request.content_length is None and not _is_chunked():
        raise BadRequest("The request has no body: send the file as the body, or as the part 'file' of a form.")
    content_type = "application/octet-stream" if request.mimetype in _NO_TYPES else request.mimetype
    with ExitStack() as stack:
        with storing():
            writer = stack.enter_context(
                storage.writer(name=_body_name(), content_type=content_type[:255], limit_bytes=limit_bytes)
            )
        for chunk in chunks:
            with storing():
                writer.write(chunk)
        with storing():
            return Upload(writer.commit(), {})


def _receive_form(storage: LocalStorage, limit_bytes: int, chunks: Iterator[bytes]) -> Upload:
    with ExitStack() as stack:
        form = UploadForm(storage, limit_bytes, stack)
        form.read(request.mimetype_params.get("boundary", ""), chunks)
        fields = form.texts()
        if form.writer is None:
            raise ValidationFailed(
                "The form has no file: add it as the part 'file'.",
                errors=[{"field": "file", "message": "add the file as this part of the form"}],
            )
        with storing():
            return Upload(form.writer.commit(), fields)


def _chunks(allowed: int, limit_bytes: int) -> Iterator[bytes]:
    """Read the body piece by piece.

    Raises:
        FileTooLarge: past what is allowed, whatever was announced.
        ClientDisconnected: when it ends before its announced end.
    """
    received = 0
    stream = request.stream
    while True:
        try:
            chunk = stream.read(_CHUNK)
        except (OSError, ValueError) as error:
            raise ClientDisconnected("The connection broke, or its chunks are malformed.") from error
        if not chunk:
            break
        received += len(chunk)
        if received > allowed:
            raise _too_large(limit_bytes)
        yield chunk
    if request.content_length is not None and received < request.content_length:
        raise ClientDisconnected("The connection ended before the whole body was sent.")


def _body_name() -> str:
    """Give the name of a file that is sent as the body: ?name=, X-Filename, or Content-Disposition."""
    name = request.args.get("name")
    if name is None and "X-Filename" in request.headers:
        # Headers are latin-1, so names beyond it come percent-encoded.
        name = unquote(request.headers["X-Filename"])
    if name is None:
        name = parse_options_header(request.headers.get("Content-Disposition"))[1].get("filename")
    return clean_name(name or "unnamed")


def _too_large(limit_bytes: int) -> FileTooLarge:
    return FileTooLarge(f"The file is larger than the limit of {limit_bytes} bytes.", limit_bytes=limit_bytes)
