"""A TCP proxy before the queue server that loses, delays and cuts what a test tells it to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

#: says whether a request (bytes as they came from the client) is meant
Match = Callable[[bytes], bool]


class Moment(StrEnum):
    """Where in a call an ambush strikes."""

    #: the server has not seen the request, and never will
    REQUEST = "before the request"
    #: the server has run the request; its reply is not delivered
    REPLY = "before the reply"
    #: the client has been sent the reply
    AFTER = "after the reply"


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

    @property
    def ended(self) -> bool:
        """Whether it applies to nothing any more."""
        return not self._left

    def end(self) -> None:
        """Let all further requests pass."""
        with self._mutex:
            self._left = 0


class Proxy:
    """Forwards to a Unix socket.

    Args:
        target: socket of the server.
        watch: told of every request; runs on the connection's thread, so it must be quick.
    """

    def __init__(self, target: Path, watch: Callable[[bytes], None] | None = None) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._mutex = threading.Lock()
        self._pairs: list[_Pair] = []
        self._refusing = False
        #: each with what it does to the connection that the request came by; that says whether to forward it
        self._rules: list[tuple[Rule, Callable[[_Pair], bool]]] = []
        self._held: list[threading.Event] = []
        self.watch = watch
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def lose_request(self, match: Match, times: int = 1) -> Rule:
        """Keep requests from the server, and cut their connection."""
        return self._add(Rule(match, times), _Pair.cut)

    def lose_reply(self, match: Match, times: int = 1) -> Rule:
        """Let the server run requests, lose their reply, and cut their connection."""
        return self._add(Rule(match, times), lambda pair: pair.on_reply(lambda: False))

    def black_hole(self, match: Match, times: int = 1) -> Rule:
        """Forward nothing from such a request on, either way, and tell nobody (a half-open connection)."""
        return self._add(Rule(match, times), _Pair.fall_silent)

    def swallow_replies(self, match: Match, times: int = 1) -> Rule:
        """Forward requests but no reply from such a request on, and tell nobody (half-open, the other way)."""
        return self._add(Rule(match, times), _Pair.swallow)

    def hold_reply(self, match: Match, times: int = 1) -> tuple[Rule, threading.Event]:
        """Hold replies back until the event is set."""
        release = threading.Event()
        self._held.append(release)

        def hold() -> bool:
            release.wait(60)
            return True

        return self._add(Rule(match, times), lambda pair: pair.on_reply(hold)), release

    def ambush(self, match: Match, moment: Moment, strike: Callable[[], bool]) -> Rule:
        """Call ``strike`` at one moment of the first such call; where it says True, the call goes no further."""

        def lie_in_wait(pair: _Pair) -> bool:
            if moment is Moment.REQUEST:
                return pair.cut() if strike() else True
            if moment is Moment.REPLY:
                return pair.on_reply(lambda: not strike())
            return pair.after_reply(strike)

        return self._add(Rule(match, 1), lie_in_wait)

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
        for release in self._held:
            release.set()
        self.cut(refuse=True)

    def meddle(self, pair: _Pair, request: bytes) -> bool:
        """Apply what is meant for a request; says whether it is forwarded."""
        if self.watch is not None:
            self.watch(request)
        # Each takes its effect, whatever the others say.
        forward = [effect(pair) for rule, effect in self._rules if rule.takes(request)]
        return all(forward)

    def forget(self, pair: _Pair) -> None:
        """Hear that a connection has ended."""
        with self._mutex:
            if pair in self._pairs:
                self._pairs.remove(pair)

    def _add(self, rule: Rule, effect: Callable[[_Pair], bool]) -> Rule:
        # A new list, since connections read the old one meanwhile.
        with self._mutex:
            self._rules = [*(entry for entry in self._rules if not entry[0].ended), (rule, effect)]
        return rule

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
        self._silent = False
        self._swallowing = False
        #: asked when the reply under way arrives; False cuts the connection instead of delivering it
        self._before: list[Callable[[], bool]] = []
        #: called when it was delivered
        self._after: list[Callable[[], bool]] = []

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
        self._proxy.forget(self)

    def cut(self) -> bool:
        self.close()
        return False

    def fall_silent(self) -> bool:
        self._silent = True
        return False

    def swallow(self) -> bool:
        self._swallowing = True
        return True

    def on_reply(self, fate: Callable[[], bool]) -> bool:
        self._before.append(fate)
        return True

    def after_reply(self, strike: Callable[[], bool]) -> bool:
        self._after.append(strike)
        return True

    def _requests(self) -> None:
        try:
            # A client sends its next request when it has the reply to the last, so what comes together is one.
            while request := self._client.recv(1 << 20):
                if self._proxy.meddle(self, request) and not self._silent:
                    self._server.sendall(request)
        except OSError:
            pass
        self.close()

    def _replies(self) -> None:
        try:
            while reply := self._server.recv(1 << 20):
                if self._silent or self._swallowing:
                    continue
                before, self._before = self._before, []
                delivered = [fate() for fate in before]
                if not all(delivered):
                    break
                after, self._after = self._after, []
                self._client.sendall(reply)
                for strike in after:
                    strike()
        except OSError:
            pass
        if not self._silent and not self._swallowing:
            self.close()
