"""Server: the connections to the queue server. What is asked over them is the engine's business."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from shared.engine.loader import Script
from shared.engine.outages import FAILURES, REPLY_TIMEOUT_S, longest_block_s, translate

#: shortest block, seconds: 0 would mean for ever, and releases before 7.0 cut a millisecond down to that
SHORTEST_BLOCK_S = 0.002
#: entries of a stream: id and fields of each
Entries = list[tuple[bytes, dict[bytes, bytes]]]


class Popper(Protocol):
    """Takes an element from whichever list has one first. One thread takes; any may interrupt."""

    def pop(self, keys: Sequence[str], timeout_s: float) -> str | None:
        """Block until one of the lists has an element, and take it; gives the list, None after timeout or interrupt."""
        ...

    def interrupt(self) -> None:
        """End the pop that is under way, or the next one if none is."""
        ...

    def close(self) -> None:
        """Give the connections back."""
        ...


class Server(ABC):
    """A Redis or Valkey server, or several that act as one; any number of threads may use it.

    Every method may raise :class:`shared.errors.EngineUnavailable`. No call that may have taken effect is repeated
    here: only the caller knows whether a repeat must carry the mark of one.

    Args:
        reply_timeout_s: how long a reply may take.
    """

    def __init__(self, reply_timeout_s: float) -> None:
        #: a blocking call that lasts longer would be taken for a server that is silent
        self.longest_block_s = longest_block_s(reply_timeout_s)

    @staticmethod
    def from_url(url: str, *, reply_timeout_s: float = REPLY_TIMEOUT_S) -> Server:
        """Make one for a URL of :mod:`shared.engine.address`; connects when first used.

        Raises:
            ValueError: when the URL makes no sense.
        """
        # Both stand on this module.
        from shared.engine.address import Shape, parse_address
        from shared.engine.cluster import ClusterServer
        from shared.engine.single import SingleServer

        address = parse_address(url)
        kind = ClusterServer if address.shape is Shape.CLUSTER else SingleServer
        return kind(address, reply_timeout_s)

    def run(self, script: Script, key: str, args: tuple[Any, ...]) -> Any:
        """Run a script and give its reply.

        Args:
            script: what to run.
            key: its only key.
            args: its arguments.
        """
        try:
            return self._run(script, key, args)
        except FAILURES as error:
            raise translate(error) from error

    def call(self, *command: Any) -> Any:
        """Call a command and give its reply, as the server sent it; what follows its name is its key."""
        try:
            return self._call(*command)
        except FAILURES as error:
            raise translate(error) from error

    def read_streams(self, positions: Mapping[str, str], *, block_ms: int, limit: int) -> list[tuple[str, Entries]]:
        """Read what streams have after a position of each.

        Args:
            positions: stream -> id of the entry after which to read.
            block_ms: how long to wait for the first entry; 0 to not wait.
            limit: entries of each stream at most.

        Returns:
            (stream, its entries) for each stream that has any.
        """
        try:
            return self._read_streams(positions, min(block_ms / 1000, self.longest_block_s), limit)
        except FAILURES as error:
            raise translate(error) from error

    @abstractmethod
    def popper(self, own: str) -> Popper:
        """Make what blocks on lists.

        Args:
            own: a key that nobody else uses.
        """

    @abstractmethod
    def nodes(self) -> Mapping[str, Callable[..., Any]]:
        """Give every server that takes writes: its name -> calls a command there, raising what redis-py raises."""

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.call("PING")

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    @abstractmethod
    def _run(self, script: Script, key: str, args: tuple[Any, ...]) -> Any: ...

    @abstractmethod
    def _call(self, *command: Any) -> Any: ...

    @abstractmethod
    def _read_streams(self, positions: Mapping[str, str], block_s: float, limit: int) -> list[tuple[str, Entries]]: ...


def xread(positions: Mapping[str, str], block_s: float, limit: int) -> tuple[Any, ...]:
    """Make the command that reads streams."""
    # To the server 0 means for ever.
    block = ("BLOCK", max(1, int(block_s * 1000))) if block_s > 0 else ()
    return ("XREAD", "COUNT", limit, *block, "STREAMS", *positions, *positions.values())
