"""What a command is given: the client and the output, made from the settings and the global options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from shared.cli.failures import UsageError
from shared.cli.output import Output
from shared.errors import CallboardError

if TYPE_CHECKING:
    from shared.client import Client
    from shared.config import Settings

#: how long a person at a terminal is left without an answer while a call is repeated, seconds
_RETRY_FOR_S = 1.0


class Session:
    """One run of a command.

    Args:
        args: the parsed arguments.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._url: str | None = getattr(args, "url", None)
        self._key: str | None = getattr(args, "key", None)
        self._stack = ExitStack()
        self._no_key: str | None = None
        self.out = Output(as_json=getattr(args, "json", False), no_color=getattr(args, "no_color", False))

    @cached_property
    def client(self) -> Client:
        """The client of the API that the options or the settings name."""
        from shared.client import Client

        url = self._url or self._settings.api_url
        key = self._find_key() if self._key is None else self._key
        return self._stack.enter_context(Client(url, key, retry_for_s=_RETRY_FOR_S))

    @cached_property
    def _settings(self) -> Settings:
        from pydantic import ValidationError

        from shared.config import load_settings

        try:
            return load_settings()
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise UsageError(f"The environment holds a value that makes no sense: {found}.") from None

    def _find_key(self) -> str:
        """Look the admin key up: the environment, then the file that the API made on its first start."""
        if self._settings.admin_key is not None:
            return self._settings.admin_key.get_secret_value()
        path = self._settings.admin_key_path
        try:
            return path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            # Not raised yet: whether the server is up at all matters more to whoever has just begun.
            reason = getattr(error, "strerror", None) or "not a key file"
            self._no_key = f"No key was sent: CALLBOARD_ADMIN_KEY is not set, and {path} cannot be read ({reason})."
            return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        if self._no_key and isinstance(error, CallboardError) and error.status == 401:
            error.detail = self._no_key


#: a command gives its exit code
Command = Callable[[Session, argparse.Namespace], int]
