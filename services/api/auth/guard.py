"""The guard: every address needs a credential, unless it is on the list here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from flask import Flask, g, request

from shared.errors import NotAuthenticated

#: endpoints that answer anybody; a new one is closed until somebody opens it here
OPEN_ENDPOINTS = frozenset({"health.healthz", "health.readyz"})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling."""

    #: stable name, for logs
    id: str
    #: what they may do
    scopes: frozenset[str]


class Authenticator(Protocol):
    """One kind of credential: the admin key now; API keys and tokens of the product's users are others."""

    def authenticate(self, token: str) -> Principal | None:
        """Give who a bearer token belongs to; None when it is not of this kind, or not valid."""
        ...


def register_guard(app: Flask, authenticators: Sequence[Authenticator]) -> None:
    """Let only callers in that one of the authenticators knows."""

    def guard() -> None:
        # An address that doesn't exist has no endpoint and is refused as well: strangers learn nothing of the map.
        if request.endpoint in OPEN_ENDPOINTS:
            return
        # Only the header counts: a key in an address would end in logs and histories.
        credential = request.authorization
        if credential is None or credential.type != "bearer" or not credential.token:
            raise NotAuthenticated
        for authenticator in authenticators:
            principal = authenticator.authenticate(credential.token)
            if principal is not None:
                g.principal = principal
                return
        raise NotAuthenticated("The key is not valid.")

    app.before_request(guard)
