"""What a call costs the server does not grow with the length of the queue."""

from __future__ import annotations

import pytest

from bench import scale

MANY = 200_000


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("grouped", [None, 200], ids=["one line", "1,000 groups"])
def test_a_call_costs_the_same_in_a_long_queue(grouped: int | None) -> None:
    for call, (few, many) in scale.measure(1_000, MANY, grouped, rounds=15).items():
        assert many.commands <= few.commands * 1.1 + 1, f"{call} runs more commands"
        # A sorted set takes the logarithm of its length; what is linear would take 200 times as long.
        assert many.us <= few.us * 2 + 20, f"{call} takes longer"
