"""Server-sent events, as the HTML standard describes them (https://html.spec.whatwg.org/#server-sent-events)."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from typing import Any

from flask import Response, request

from services.api.errors import RETRY_AFTER_S
from services.api.hub import Subscription, SubscriptionClosed

EVENT_STREAM = "text/event-stream"
HEARTBEAT = b": heartbeat\n\n"

#: what a stream says, given its subscription
Script = Callable[[Subscription], Generator[bytes, None, None]]


def frame(name: str, data: Any, event_id: str | None = None) -> bytes:
    """Write one event."""
    head = f"event: {name}\n" + (f"id: {event_id}\n" if event_id else "")
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def dropped(reason: str) -> bytes:
    """Write the last event of a stream that the server ends before its time."""
    return frame("dropped", {"reason": reason})


class EventStream:
    """The body of a stream: holds a subscription for as long as the client listens.

    A class and not a generator, since a generator that was never started (HEAD, or a client gone at once) would not
    run its ``finally`` and keep the subscription.
    """

    def __init__(self, subscribing: AbstractContextManager[Subscription], script: Script) -> None:
        self._subscribing = subscribing
        # Entered at once: when that fails there is still time for an honest status.
        self._frames = self._guarded(script, subscribing.__enter__())
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._frames)

    def close(self) -> None:
        """Give the subscription back; called by the server when the answer has been sent, or cannot be."""
        if not self._closed:
            self._closed = True
            self._frames.close()
            self._subscribing.__exit__(None, None, None)

    @staticmethod
    def _guarded(script: Script, subscription: Subscription) -> Generator[bytes, None, None]:
        yield f"retry: {RETRY_AFTER_S * 1000 // 2}\n\n".encode()
        try:
            yield from script(subscription)
        except SubscriptionClosed as closed:
            yield dropped(closed.reason)


def stream_response(stream: EventStream) -> Response:
    """Answer with a stream."""
    response = Response(stream, mimetype=EVENT_STREAM)
    # nginx would collect the answer until its buffer is full
    response.headers["X-Accel-Buffering"] = "no"
    return response


def last_event_id() -> str | None:
    """Give what the client saw last, as it says."""
    return request.headers.get("Last-Event-ID") or None
