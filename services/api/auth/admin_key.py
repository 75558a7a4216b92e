"""The admin key: given by the environment, or made on the first start."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import sys
from pathlib import Path

from services.api.auth.guard import Principal
from shared.config import Settings

_ADMIN = Principal("admin", frozenset({"enqueue", "read", "operate", "admin"}))


class AdminKey:
    """Knows callers that hold the admin key."""

    def __init__(self, key: str) -> None:
        self._digest = _digest(key.encode())

    def authenticate(self, token: str) -> Principal | None:
        """See :meth:`Authenticator.authenticate`."""
        # Header bytes reach WSGI as latin-1. Digests are compared, so that the time tells nothing, the length included.
        given = _digest(token.encode("latin-1", "replace"))
        return _ADMIN if hmac.compare_digest(given, self._digest) else None


def load_admin_key(settings: Settings) -> str:
    """Give the admin key; on the very first start make it, keep it in a file and print it, once.

    Raises:
        RuntimeError: when the file is there but holds no key.
    """
    if settings.admin_key is not None:
        return settings.admin_key.get_secret_value()
    path = settings.admin_key_path
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        key = f"cb_{secrets.token_urlsafe(32)}"
        if _publish(path, key):
            _announce(path, key)
            return key
    return _read(path)


def _publish(path: Path, key: str) -> bool:
    """Make the key file appear, whole, unless another process was first; gives whether it was us."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w") as out:
            out.write(key + "\n")
            out.flush()
            os.fsync(out.fileno())
        # A link fails when the name is taken, and what it names is written already: no process can read half a key.
        os.link(part, path)
    except FileExistsError:
        return False
    finally:
        part.unlink()
    return True


def _read(path: Path) -> str:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
    key = path.read_text().strip()
    if not key:
        raise RuntimeError(f"{path} holds no key: delete it to have one made, or write one into it.")
    return key


def _announce(path: Path, key: str) -> None:
    # To the terminal and not through the logger: logs are collected, and keys have no place there.
    sys.stderr.write(
        f"\n  Callboard made an admin key. It is shown only now, and kept in {path}:\n\n      {key}\n\n"
        "  Send it with each request: 'Authorization: Bearer KEY'.\n\n"
    )
    sys.stderr.flush()


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
