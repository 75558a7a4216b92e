"""The event hub, with an engine whose every answer the test gives."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import pytest

from services.api.errors import TooManyStreams
from services.api.hub import EventHub, Notice, Subscription, SubscriptionClosed, is_after
from shared.engine.engine import Engine, Event
from shared.errors import EngineUnavailable

PATIENCE_S = 10.0


class Streams:
    """The streams of an engine: what is published is read once a position is behind it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._fail: list[Exception] = []
        self.reads: list[dict[str, str]] = []
        self.readers: set[int] = set()

    def publish(self, queue: str = "q", name: str = "active", job_id: str | None = "q.1") -> str:
        with self._changed:
            event_id = f"{1000 + len(self._events)}-0"
            self._events.append(Event(event_id, queue, name, job_id, {}))
            self._changed.notify_all()
            return event_id

    def fail(self, *errors: Exception) -> None:
        with self._changed:
            self._fail += errors
            self._changed.notify_all()

    def last_event(self, queue: str) -> str:
        with self._changed:
            return next((event.id for event in reversed(self._events) if event.queue == queue), "0")

    def events(self, positions: Mapping[str, str], *, block_ms: int, limit: int = 500) -> Sequence[Event]:
        self.reads.append(dict(positions))
        self.readers.add(threading.get_ident())

        def found() -> list[Event]:
            return [e for e in self._events if e.queue in positions and is_after(e.id, positions[e.queue])]

        with self._changed:
            # A short block, so that no test waits for one.
            self._changed.wait_for(lambda: found() or self._fail, timeout=0.02)
            if self._fail:
                raise self._fail.pop(0)
            return found()[:limit]


@pytest.fixture
def streams() -> Streams:
    return Streams()


@pytest.fixture
def hub(streams: Streams) -> Iterator[EventHub]:
    hub = EventHub(cast(Engine, streams), max_subscribers=3, backlog=5)
    yield hub
    hub.close()


def take(subscription: Subscription) -> str:
    notice = subscription.get(PATIENCE_S)
    assert notice is not None, "nothing came"
    return notice.event.id


def test_what_happens_after_the_call_is_told_and_nothing_before(hub: EventHub, streams: Streams) -> None:
    streams.publish()
    with hub.subscribe(["q"]) as subscription:
        assert subscription.start == {"q": "1000-0"}
        later = [streams.publish(), streams.publish()]
        assert [take(subscription), take(subscription)] == later
        assert subscription.get(0) is None


def test_only_what_was_asked_for_is_told(hub: EventHub, streams: Streams) -> None:
    with hub.subscribe(["q"], "q.2") as mine, hub.subscribe(["q", "r"]) as both:
        first = streams.publish("q", job_id="q.1")
        second = streams.publish("r", job_id="r.2")
        third = streams.publish("q", job_id="q.2")
        assert take(mine) == third
        # Between queues there is no order.
        taken = [take(both) for _ in range(3)]
        assert sorted(taken) == [first, second, third]
        assert taken.index(first) < taken.index(third)


def test_one_thread_reads_for_all(hub: EventHub, streams: Streams) -> None:
    for _ in range(3):
        with hub.subscribe(["q"]) as one, hub.subscribe(["q"]) as two, hub.subscribe(["r"]):
            event = streams.publish()
            assert take(one) == take(two) == event
    assert len(streams.readers) == 1


def test_nothing_is_read_while_nobody_watches(hub: EventHub, streams: Streams) -> None:
    with hub.subscribe(["q"]) as subscription:
        streams.publish()
        take(subscription)
    with hub.subscribe(["r"]) as subscription:
        reads = len(streams.reads)
        streams.publish("r", job_id=None)
        take(subscription)
        streams.publish("r", job_id=None)
        take(subscription)
        # The read under way when the queue was left may still have asked for it, no later one.
        assert all("q" not in read for read in streams.reads[reads + 1 :])


def test_outages_are_survived_and_nothing_is_missed(hub: EventHub, streams: Streams) -> None:
    with hub.subscribe(["q"]) as subscription:
        streams.fail(EngineUnavailable(), EngineUnavailable(), ValueError("a bug"))
        event = streams.publish()
        assert take(subscription) == event


def test_a_server_that_is_away_refuses_the_subscription_and_takes_no_place(
    hub: EventHub, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_queue: str) -> str:
        raise EngineUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(streams, "last_event", away)
        for _ in range(5):
            with pytest.raises(EngineUnavailable), hub.subscribe(["q"]):
                pytest.fail("subscribed")
    with hub.subscribe(["q"]), hub.subscribe(["q"]), hub.subscribe(["q"]):
        pass


def test_there_are_only_so_many_places(hub: EventHub) -> None:
    with hub.subscribe(["q"]), hub.subscribe(["q"]):
        with hub.subscribe(["q"]), pytest.raises(TooManyStreams), hub.subscribe(["q"]):
            pytest.fail("subscribed")
        with hub.subscribe(["q"]):
            pass


def test_who_does_not_keep_up_is_dropped_with_the_reason_and_holds_up_nobody(hub: EventHub, streams: Streams) -> None:
    with hub.subscribe(["q"]) as slow, hub.subscribe(["q"]) as quick:
        for _ in range(20):
            event = streams.publish()
            assert take(quick) == event
        with pytest.raises(SubscriptionClosed) as closed:
            slow.get(PATIENCE_S)
        assert closed.value.reason == "slow"


def test_closing_ends_all_and_lets_nobody_in(streams: Streams) -> None:
    hub = EventHub(cast(Engine, streams))
    with hub.subscribe(["q"]) as subscription:
        hub.close()
        with pytest.raises(SubscriptionClosed) as closed:
            subscription.get(PATIENCE_S)
        assert closed.value.reason == "stopping"
    with pytest.raises(TooManyStreams), hub.subscribe(["q"]):
        pytest.fail("subscribed")


def test_a_notice_knows_how_far_every_queue_was_read(hub: EventHub, streams: Streams) -> None:
    with hub.subscribe(["q", "r"]) as subscription:
        first = streams.publish("q")
        second = streams.publish("r", job_id=None)
        notices = [cast(Notice, subscription.get(PATIENCE_S)) for _ in range(2)]
        assert notices[0].positions == {"q": first, "r": "0"}
        assert notices[1].positions == {"q": first, "r": second}


def test_positions_are_ordered_as_numbers() -> None:
    assert is_after("10-0", "9-0")
    assert is_after("9-10", "9-9")
    assert is_after("1-0", "0")
    assert not is_after("9-9", "9-9")
    assert not is_after("9-9", "10-0")
