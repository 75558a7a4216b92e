"""Which middleware acts on which signal.

Dramatiq calls every middleware for every signal, five times a message, and nearly all of these calls meet a method that
does nothing. They are left out here; what is called, and in which order, stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dramatiq.middleware import Middleware

Handler = Callable[..., None]


class Signals:
    """The methods that signals lead to, as Dramatiq's :class:`~dramatiq.Broker` would find them.

    Args:
        middleware: the broker's own list, which may change.
    """

    def __init__(self, middleware: Sequence[Middleware]) -> None:
        self._middleware = list(middleware)
        self._handlers: dict[str, list[tuple[Middleware, Handler]]] = {}

    def knows(self, middleware: Sequence[Middleware]) -> bool:
        """Whether that is still the list that this was made of."""
        return self._middleware == middleware

    def handlers(self, signal: str) -> list[tuple[Middleware, Handler]]:
        """Give what acts on a signal (``before_ack``), in the order of the middleware."""
        found = self._handlers.get(signal)
        if found is None:
            nothing = getattr(Middleware, signal, None)
            found = self._handlers[signal] = [
                (middleware, getattr(middleware, signal))
                for middleware in self._middleware
                if nothing is None or getattr(getattr(middleware, signal), "__func__", None) is not nothing
            ]
        return found
