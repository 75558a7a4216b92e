"""A TCP proxy before the queue server that loses, delays and cuts what a test tells it to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

#: says whether a request (bytes as they came from the client) is meant
Match = Callable[[bytes], bool]


class Rule:
    """What happens to requests that match, and how often it did.

    Args:
        match: which requests.
        times: how many of them.
    """

    def __init__(self, match: Match, times: int) -> None:
        self._match = match
        self._left = times
        self._mutex = threading.Lock()
        #: set when it was applied for the first time
        self.applied = threading.Event()

    def takes(self, request: bytes) -> bool:
        """Say whether this request is one, and count it."""
        with self._mutex:
            if not self._left or not self._match(request):
                return False
            self._left -= 1
        self.applied.set()
        return True

    def end(self) -> None:
        """Let all further requests pass."""
        with self._mutex:
            self._left = 0


class Proxy:
    """Forwards to a Unix socket.

    Args:
        target: socket of the server.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._mutex = threading.Lock()
        self._pairs: list[_Pair] = []
        self._refusing = False
        #: requests that never reach the server; their connection is cut
        self.lost_requests: list[Rule] = []
        #: requests that the server runs, but whose reply is lost; their connection is cut
        self.lost_replies: list[Rule] = []
        #: requests after which nothing is forwarded either way, and nobody is told (a half-open connection)
        self.black_holes: list[Rule] = []
        #: requests whose reply waits until the test sets the event
        self.held_replies: list[tuple[Rule, threading.Event]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def lose_request(self, match: Match, times: int = 1) -> Rule:
        self.lost_requests.append(rule := Rule(match, times))
        return rule

    def lose_reply(self, match: Match, times: int = 1) -> Rule:
        self.lost_replies.append(rule := Rule(match, times))
        return rule

    def black_hole(self, match: Match, times: int = 1) -> Rule:
        self.black_holes.append(rule := Rule(match, times))
        return rule

    def hold_reply(self, match: Match, times: int = 1) -> tuple[Rule, threading.Event]:
        """Hold replies back until the event is set."""
        held = (Rule(match, times), threading.Event())
        self.held_replies.append(held)
        return held

    def cut(self, *, refuse: bool = False) -> None:
        """Cut every connection; with ``refuse`` take no new ones until :meth:`heal`."""
        with self._mutex:
            self._refusing = refuse
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.close()

    def heal(self) -> None:
        """Take connections again."""
        self._refusing = False

    def close(self) -> None:
        """End it all."""
        self._listener.close()
        for _, release in self.held_replies:
            release.set()
        self.cut(refuse=True)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._target))
            except OSError:  # the server is down
                server.close()
                client.close()
                continue
            pair = _Pair(self, client, server)
            with self._mutex:
                self._pairs.append(pair)
            pair.start()


class _Pair:
    """One connection and its way on."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._lose_next_reply = False
        self._silent = False
        self._hold: threading.Event | None = None

    def start(self) -> None:
        for pump in (self._requests, self._replies):
            threading.Thread(target=pump, daemon=True).start()

    def close(self) -> None:
        for end in (self._client, self._server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def _requests(self) -> None:
        try:
            # A client sends its next request when it has the reply to the last, so what comes together is one.
            while request := self._client.recv(1 << 20):
                if self._meddle(request):
                    self._server.sendall(request)
        except OSError:
            pass
        self.close()

    def _meddle(self, request: bytes) -> bool:
        proxy = self._proxy
        if any(rule.takes(request) for rule in proxy.lost_requests):
            self.close()
            return False
        if any(rule.takes(request) for rule in proxy.black_holes):
            self._silent = True
        if any(rule.takes(request) for rule in proxy.lost_replies):
            self._lose_next_reply = True
        for rule, release in proxy.held_replies:
            if rule.takes(request):
                self._hold = release
        return not self._silent

    def _replies(self) -> None:
        try:
            while reply := self._server.recv(1 << 20):
                if self._lose_next_reply:
                    break
                hold, self._hold = self._hold, None
                if hold is not None:
                    hold.wait(60)
                self._client.sendall(reply)
        except OSError:
            pass
        if not self._silent:
            self.close()
