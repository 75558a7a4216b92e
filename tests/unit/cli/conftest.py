from __future__ import annotations

import pytest

import shared.client.connection
import shared.client.following


class Clock:
    """Time that passes only when somebody sleeps; records for how long."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of the client, so that its tests take none."""
    made = Clock()
    for module in (shared.client.connection, shared.client.following):
        monkeypatch.setattr(module, "time", made)
    return made
