"""The judgements: each a value, whether that will do, and why in words."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Thread
from typing import Any, NamedTuple

from shared.broker.leases import LeaseThread

#: a reply may take this long before the connection counts as broken, so that much is added to a pass's due time
PASS_MARGIN_S = 5.0


class Check(NamedTuple):
    """One thing that was looked at."""

    ok: bool
    #: what was seen; JSON-able, times in seconds
    value: Any
    #: a sentence for people; names no host and no payload, since anybody may read it
    reason: str
    #: whether the process is beyond help without it, so that a restart is called for
    vital: bool = True

    def to_json(self) -> dict[str, Any]:
        """Give it as it is published."""
        return self._asdict()


def count_threads(threads: list[Thread], configured: int, what: str) -> Check:
    """Compare the threads that live with those that should: one that died takes no job any more, and tells nobody."""
    live = sum(thread.is_alive() for thread in threads)
    value = {"live": live, "configured": configured}
    if live == configured:
        return Check(True, value, f"All {what} threads live.")
    return Check(False, value, f"{configured - live} of {configured} {what} threads died.")


def thread_lives(thread: Thread | None, what: str, loss: str) -> Check:
    """Look whether one of the broker's own threads lives."""
    alive = thread is not None and thread.is_alive()
    return Check(alive, {"alive": alive}, f"The {what} thread lives." if alive else f"The {what} thread died: {loss}")


def lease_thread(thread: LeaseThread | None, *, now: float, lease_s: float, contact_since: float | None) -> Check:
    """Look whether leases are kept: the thread lives, and goes its rounds.

    Args:
        thread: of this process.
        now: monotonic seconds.
        lease_s: length of a lease.
        contact_since: since when the server answers without a break; None while it does not. A thread that waits for
            the server does nothing wrong.
    """
    lives = thread_lives(thread, "lease", "running jobs will be given to other workers.")
    if not lives.ok or thread is None:
        return lives
    age_s = now - thread.passed_at
    value = {"alive": True, "last_pass_s": round(age_s, 1)}
    if contact_since is not None and now - max(thread.passed_at, contact_since) > lease_s * 2 / 3 + PASS_MARGIN_S:
        return Check(False, value, f"The lease thread lives, but has renewed nothing for {age_s:.0f} s.")
    return Check(True, value, "The lease thread lives and goes its rounds.")


def server(*, now: float, contact_at: float | None, contact_since: float | None, patience_s: float) -> Check:
    """Look when the queue server answered last. Not vital: a restart of the worker does not mend the server."""
    if contact_at is None:
        return Check(False, {"last_contact_s": None}, "The queue server has not answered yet.", vital=False)
    age_s = now - contact_at
    value = {"last_contact_s": round(age_s, 1)}
    if contact_since is None or age_s > patience_s:
        return Check(False, value, f"The queue server has not answered for {age_s:.0f} s.", vital=False)
    return Check(True, value, "The queue server answers.", vital=False)


def consumption(stalls: Mapping[str, float], *, now: float, idle: int, stuck_s: float) -> Check:
    """Look whether jobs wait that this process could run and does not fetch.

    Args:
        stalls: queue -> since when that is so, monotonic seconds.
        now: monotonic seconds.
        idle: worker threads that wait for a job.
        stuck_s: how long that may last.
    """
    ages = {queue: round(now - since, 1) for queue, since in sorted(stalls.items())}
    value = {"idle_threads": idle, "not_fetched_s": ages}
    stuck = [queue for queue, age_s in ages.items() if age_s >= stuck_s]
    if not stuck:
        return Check(True, value, "No job waits that this process should have fetched.")
    return Check(
        False,
        value,
        f"Jobs wait in {', '.join(stuck)}, threads are idle, and nothing has been fetched for {stuck_s:g} s or longer.",
    )
