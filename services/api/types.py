"""``/api/v1/types``: the catalogue of job types."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from services.api.backend import backend
from services.api.documents import API, type_document, type_owner
from shared.errors import UnknownJobType

blueprint = Blueprint("types", __name__, url_prefix=f"{API}/types")


class NoSuchType(UnknownJobType):
    """There is no job type of that name."""

    # In a body an unknown type makes the request unprocessable; in an address it makes the address wrong.
    status = 404


@blueprint.get("")
def list_all() -> dict[str, Any]:
    """List all job types."""
    catalogue = backend().catalogue
    return {"types": [type_document(type_owner(catalogue, name), job) for name, job in catalogue.jobs.items()]}


@blueprint.get("/<name>")
def describe(name: str) -> dict[str, Any]:
    """Describe a job type."""
    catalogue = backend().catalogue
    try:
        job = catalogue.job(name)
    except UnknownJobType as error:
        raise NoSuchType(error.detail) from None
    return type_document(type_owner(catalogue, name), job)
