"""``/api/v1/files``: what jobs read and write."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, send_file

from services.api.backend import backend
from services.api.bodies import check_query
from services.api.documents import API, file_document
from services.api.uploads import receive_upload

blueprint = Blueprint("files", __name__, url_prefix=f"{API}/files")


@blueprint.post("")
def upload() -> tuple[dict[str, Any], int, dict[str, str]]:
    """Store a file."""
    check_query(["name"])
    the = backend()
    file = receive_upload(the.storage, the.settings.max_upload_bytes).file
    return file_document(file), 201, {"Location": f"{API}/files/{file.id}"}


@blueprint.get("/<file_id>")
def describe(file_id: str) -> dict[str, Any]:
    """Describe a file."""
    return file_document(backend().storage.stat(file_id))


@blueprint.get("/<file_id>/content")
def download(file_id: str) -> Response:
    """Give a file's content, or the ranges of it that are asked for."""
    storage = backend().storage
    file = storage.stat(file_id)
    # Always as an attachment: an uploaded page must not run as one of ours.
    return send_file(
        storage.local_path(file_id),
        mimetype=file.content_type,
        as_attachment=True,
        download_name=file.name,
        etag=file.sha256,
        last_modified=file.created_ms / 1000,
        conditional=True,
    )
