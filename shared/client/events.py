"""Server-sent events, as the HTML standard describes them, out of the bytes of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream."""

    #: what happened: ``progress``, ``completed``, ``failed`` …; empty for a sign of life, which carries nothing
    name: str
    #: position to go on from, to be sent as ``Last-Event-ID``; None when the server gave none
    id: str | None
    #: what the server says about it
    data: Any

    @property
    def heartbeat(self) -> bool:
        """Whether this only shows that the connection lives."""
        return not self.name


def parse_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Read events; a comment becomes a heartbeat. An event cut off by the end of the stream is dropped.

    Raises:
        ValueError: when an event's data is not JSON.
    """
    name = ""
    event_id: str | None = None
    data: list[str] = []
    for line in _lines(chunks):
        if line.startswith(":"):
            yield Event("", event_id, None)
        elif line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
            elif field == "id" and "\0" not in value:
                event_id = value
        elif data:
            yield Event(name or "message", event_id, json.loads("\n".join(data)))
            name, data = "", []
        else:
            name = ""


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    # httpx's iter_lines also splits where Unicode sees a line end (U+2028 …), which is legal inside an event's data.
    pending = b""
    for chunk in chunks:
        lines = (pending + chunk).splitlines(keepends=True)
        # A line that ends in a carriage return may be half of one that ends in CR LF.
        pending = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in lines:
            yield line.rstrip(b"\r\n").decode("utf-8", "replace")
