"""Slots: no queue is starved of threads by another of its process."""

from __future__ import annotations

from shared.broker.slots import Slots


class Queue:
    def __init__(self) -> None:
        self.nudges = 0

    def nudge(self) -> None:
        self.nudges += 1


def test_threads_are_granted_while_there_are_some() -> None:
    slots, one, other = Slots(3), Queue(), Queue()
    assert slots.exchange(one, returned=0, wanted=2) == 2
    assert slots.exchange(other, returned=0, wanted=2) == 1
    assert slots.exchange(other, returned=0, wanted=2) == 0


def test_who_waits_comes_before_who_gives_back() -> None:
    slots, busy, waiting = Slots(1), Queue(), Queue()
    assert slots.exchange(busy, returned=0, wanted=1) == 1
    assert slots.exchange(waiting, returned=0, wanted=1) == 0
    assert slots.exchange(busy, returned=1, wanted=1) == 0, "the busy queue must let the other go first"
    assert waiting.nudges == 1
    assert slots.exchange(waiting, returned=0, wanted=1) == 1


def test_those_who_wait_are_served_in_turn() -> None:
    slots, busy, first, second = Slots(1), Queue(), Queue(), Queue()
    slots.exchange(busy, returned=0, wanted=1)
    slots.exchange(first, returned=0, wanted=1)
    slots.exchange(second, returned=0, wanted=1)
    slots.exchange(busy, returned=1, wanted=0)
    assert (first.nudges, second.nudges) == (1, 0)
    assert slots.exchange(first, returned=0, wanted=1) == 1
    slots.exchange(first, returned=1, wanted=1)
    assert second.nudges == 1


def test_a_thread_set_aside_is_given_on_when_it_is_not_wanted() -> None:
    slots, busy, waiting = Slots(1), Queue(), Queue()
    slots.exchange(busy, returned=0, wanted=1)
    slots.exchange(waiting, returned=0, wanted=1)
    slots.exchange(busy, returned=1, wanted=1)
    assert slots.exchange(waiting, returned=0, wanted=0) == 0
    assert busy.nudges == 1
    assert slots.exchange(busy, returned=0, wanted=1) == 1
