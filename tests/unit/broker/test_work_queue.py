"""WorkQueue: wakes no more threads than it must, and never too few."""

from __future__ import annotations

import threading
from queue import Empty

import pytest

from shared.broker.work_queue import WorkQueue


def test_the_least_item_comes_first() -> None:
    queue: WorkQueue[int] = WorkQueue()
    for item in (3, 1, 2):
        queue.put(item)
    assert [queue.get(timeout=1) for _ in range(3)] == [1, 2, 3]


def test_there_is_nothing() -> None:
    queue: WorkQueue[int] = WorkQueue()
    with pytest.raises(Empty):
        queue.get_nowait()
    with pytest.raises(Empty):
        queue.get(timeout=0.001)


def test_items_are_counted_until_they_are_done() -> None:
    queue: WorkQueue[int] = WorkQueue()
    queue.put(1)
    queue.get()
    assert queue.unfinished_tasks == 1
    queue.task_done()
    queue.join()


def test_every_sleeper_is_woken_while_others_are_busy() -> None:
    """Each thread holds its item until all have one: the wake-ups must reach all of them."""
    queue: WorkQueue[int] = WorkQueue()
    together = threading.Barrier(9)
    threads = [threading.Thread(target=lambda: (queue.get(), together.wait(10)), daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for item in range(8):
        queue.put(item)
    together.wait(10)


def test_many_threads_take_each_item_once() -> None:
    queue: WorkQueue[int] = WorkQueue()
    taken: list[int] = []

    def take() -> None:
        while (item := queue.get(timeout=30)) < 10_000:
            taken.append(item)

    threads = [threading.Thread(target=take, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for item in range(5_000):
        queue.put(item)
    for _ in threads:
        queue.put(10_000)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert sorted(taken) == list(range(5_000))


def test_timeouts_that_meet_wake_ups_lose_no_item() -> None:
    queue: WorkQueue[int] = WorkQueue()
    taken: list[int] = []
    stop = threading.Event()

    def take() -> None:
        while not stop.is_set():
            try:
                taken.append(queue.get(timeout=0.0005))
            except Empty:
                continue

    threads = [threading.Thread(target=take, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for item in range(2_000):
        queue.put(item)
    deadline = threading.Event()
    for _ in range(1_000):
        if len(taken) == 2_000:
            break
        deadline.wait(0.01)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert sorted(taken) == list(range(2_000))
