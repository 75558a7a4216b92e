"""Slots: no queue is starved of threads by another of its process."""

from __future__ import annotations

from shared.broker.slots import AHEAD_MOST, Slots


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


def prove_short(slots: Slots) -> None:
    for _ in range(200):
        slots.ran(0.0001)


def test_a_process_looks_ahead_only_once_jobs_have_proven_short() -> None:
    slots, queue = Slots(2), Queue()
    assert slots.exchange(queue, returned=0, wanted=10) == 2
    prove_short(slots)
    assert slots.exchange(queue, returned=0, wanted=10) == 10
    assert slots.overcommitted


def test_the_look_ahead_is_bounded() -> None:
    slots, queue = Slots(2), Queue()
    prove_short(slots)
    assert slots.exchange(queue, returned=0, wanted=10_000) == 2 + AHEAD_MOST


def test_one_long_job_ends_the_look_ahead() -> None:
    slots, queue = Slots(2), Queue()
    prove_short(slots)
    slots.exchange(queue, returned=0, wanted=10)
    slots.ran(1.0)
    assert slots.exchange(queue, returned=8, wanted=8) == 0
    assert slots.exchange(queue, returned=2, wanted=2) == 2


def test_nobody_is_set_aside_a_thread_that_there_is_not() -> None:
    slots, busy, waiting = Slots(1), Queue(), Queue()
    prove_short(slots)
    slots.exchange(busy, returned=0, wanted=5)
    slots.ran(1.0)
    assert slots.exchange(waiting, returned=0, wanted=1) == 0
    slots.exchange(busy, returned=4, wanted=0)
    assert waiting.nudges == 0
    slots.exchange(busy, returned=1, wanted=0)
    assert waiting.nudges == 1


def test_busy_queues_share_what_is_fetched_ahead() -> None:
    slots, busy, other = Slots(2), Queue(), Queue()
    prove_short(slots)
    capacity = 2 + AHEAD_MOST
    assert slots.exchange(busy, returned=0, wanted=1000) == capacity
    assert slots.exchange(other, returned=0, wanted=1000) == 0
    assert slots.exchange(busy, returned=capacity // 2, wanted=1000) == 0, "the other queue has had nothing yet"
    assert other.nudges == 1
    assert slots.exchange(other, returned=0, wanted=1000) == capacity // 2
    assert slots.exchange(busy, returned=10, wanted=1000) == 10
    assert slots.exchange(other, returned=10, wanted=1000) == 10


def test_a_queue_that_has_nothing_to_run_takes_no_share() -> None:
    slots, busy, idle = Slots(2), Queue(), Queue()
    prove_short(slots)
    granted = slots.exchange(idle, returned=0, wanted=1000)
    slots.exchange(idle, returned=granted, wanted=0)
    assert slots.exchange(busy, returned=0, wanted=1000) == 2 + AHEAD_MOST


def test_who_was_granted_threads_ahead_is_no_longer_waiting() -> None:
    slots, busy, other = Slots(1), Queue(), Queue()
    slots.exchange(busy, returned=0, wanted=1)
    slots.exchange(other, returned=0, wanted=1)
    prove_short(slots)
    assert slots.exchange(other, returned=0, wanted=2) == 2
    slots.exchange(other, returned=2, wanted=0)
    slots.exchange(busy, returned=1, wanted=0)
    assert other.nudges == 0, "a thread set aside for a queue that has nothing to run would be idle for seconds"
    assert slots.exchange(busy, returned=0, wanted=1) == 1


def test_who_waits_is_served_by_what_its_own_runs_give_back() -> None:
    slots, queue = Slots(1), Queue()
    slots.exchange(queue, returned=0, wanted=1)
    slots.exchange(queue, returned=0, wanted=1)
    slots.exchange(queue, returned=1, wanted=0)
    assert queue.nudges == 1
    assert slots.exchange(queue, returned=0, wanted=1) == 1
