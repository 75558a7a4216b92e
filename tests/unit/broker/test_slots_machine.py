"""Slots under every order of claims, finishes and lulls that Hypothesis thinks of.

After every step the threads add up, none is idle while somebody stands in line, and no more jobs are held than may be
fetched ahead. Whoever stands in line has its turn, however busy the others are.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.broker.slots import AHEAD_MOST, Slots

#: more than there is room for, whatever the process looks ahead
MUCH = 1_000

queues = st.integers(0, 4)


class Queue:
    """A queue as its channel drives the slots: it holds what it was granted until its jobs end."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.held = 0
        self.nudged = False

    def nudge(self) -> None:
        self.nudged = True

    def exchange(self, *, returned: int = 0, wanted: int = 0) -> int:
        self.nudged = False
        granted = self.slots.exchange(self, returned=returned, wanted=wanted)
        assert 0 <= granted <= wanted
        self.held += granted - returned
        return granted


class SlotsMachine(RuleBasedStateMachine):
    @initialize(total=st.integers(1, 8), count=st.integers(1, 5))
    def begin(self, total: int, count: int) -> None:
        self.slots = Slots(total)
        self.queues = [Queue(self.slots) for _ in range(count)]

    def queue(self, number: int) -> Queue:
        return self.queues[number % len(self.queues)]

    @rule(number=queues, wanted=st.sampled_from([1, 2, 5, MUCH]))
    def claim(self, number: int, wanted: int) -> None:
        self.queue(number).exchange(wanted=wanted)

    @rule(number=queues, share=st.floats(0, 1), wanted=st.sampled_from([0, 1, 5, MUCH]))
    def end_jobs(self, number: int, share: float, wanted: int) -> None:
        queue = self.queue(number)
        queue.exchange(returned=round(queue.held * share), wanted=wanted)

    @rule(number=queues)
    def find_nothing(self, number: int) -> None:
        """A queue claims threads, and is empty."""
        queue = self.queue(number)
        queue.exchange(returned=queue.exchange(wanted=MUCH))

    @rule(number=queues)
    def give_up(self, number: int) -> None:
        """A queue that stood in line wants nothing any more."""
        self.queue(number).exchange()

    @rule()
    def prove_short(self) -> None:
        for _ in range(200):
            self.slots.ran(0.0001)

    @rule(seconds=st.sampled_from([0.001, 0.01, 5.0]))
    def run_longer(self, seconds: float) -> None:
        self.slots.ran(seconds)

    @rule()
    def get_stuck(self) -> None:
        self.slots.look_no_further()

    # -- what always holds --

    @invariant()
    def threads_add_up(self) -> None:
        slots = self.slots
        for queue in self.queues:
            assert slots._held.get(queue, 0) == queue.held + slots._set_aside.get(queue, 0)
        assert sum(slots._held.values()) == slots.total - slots._free

    @invariant()
    def no_more_are_held_than_may_be_fetched_ahead(self) -> None:
        assert -AHEAD_MOST <= self.slots._free <= self.slots.total

    @invariant()
    def whoever_was_set_a_thread_aside_was_told(self) -> None:
        for queue in self.queues:
            assert queue.nudged or not self.slots._set_aside.get(queue)

    @invariant()
    def nobody_stands_in_line_twice_or_beside_an_idle_thread(self) -> None:
        waiting = list(self.slots._waiting)
        assert len(waiting) == len(set(waiting))
        assert not waiting or self.slots._free <= 0

    @precondition(lambda self: self.slots._waiting)
    @rule(long=st.booleans())
    def everybody_has_a_turn(self, *, long: bool) -> None:
        """All are busy and take whatever they get; who stands in line is served all the same."""
        if long:
            self.slots.look_no_further()
        unserved: set[Any] = set(self.slots._waiting)
        # Each of the others may have been before it in line, and all that is held may have to end first.
        for _ in range(self.slots.total + AHEAD_MOST + 2 * len(self.queues)):
            for queue in self.queues:
                if queue.nudged and queue.exchange(wanted=MUCH):
                    unserved.discard(queue)
                if queue.held and queue.exchange(returned=1, wanted=MUCH):
                    unserved.discard(queue)
            if not unserved:
                return
        raise AssertionError(f"{len(unserved)} of {len(self.queues)} queues were never served")


TestSlots = SlotsMachine.TestCase
TestSlots.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
