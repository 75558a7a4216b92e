"""The probes of real worker processes, well and broken in every way that they look for."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from shared.engine.redis import RedisEngine
from tests.integration.broker.patience import eventually, never
from tests.integration.workers.site import STUCK_S, Site
from tests.servers import ValkeyServer


def test_a_worker_that_works_is_live_and_ready_and_says_what_it_looked_at(site: Site) -> None:
    with site.worker(threads=3).ready():
        site.finished(site.put("nothing"))
        site.until("/readyz", 200)
        for path, status in (("/healthz", "live"), ("/readyz", "ready")):
            answer = site.ask(path)
            assert (answer.status, answer.body["status"]) == (200, status)
            assert answer.body["checks"]["worker_threads"] == {
                "ok": True,
                "value": {"live": 3, "configured": 3},
                "reason": "All worker threads live.",
                "vital": True,
            }
            assert set(answer.body["checks"]) == {
                *("worker_threads", "consumer_threads", "lease_thread", "wake_thread", "monitor_thread"),
                *("consumption", "server"),
            }
            assert not answer.failing
        assert site.ask("/").status == 404


def test_each_process_of_a_worker_has_a_port_of_its_own(site: Site) -> None:
    with site.worker(processes=2).ready():
        answers = [site.until("/readyz", 200, index=index).body["process"] for index in range(2)]
        assert [answer["index"] for answer in answers] == [0, 1]
        assert len({answer["pid"] for answer in answers}) == 2


def test_it_answers_while_every_thread_is_busy_and_jobs_wait(site: Site) -> None:
    with site.worker(threads=2).ready():
        held = [site.put("held", f"held-{number}") for number in range(2)]
        waiting = site.put("nothing")
        eventually(lambda: len(site.runs("began")) == 2)
        never(lambda: site.ask().failing, during=STUCK_S * 2, why="busy is not stuck")
        assert site.ask().body["checks"]["consumption"]["value"]["idle_threads"] == 0
        site.open_gate()
        for job_id in (*held, waiting):
            site.finished(job_id)


def test_what_may_not_be_fetched_is_not_stuck(site: Site) -> None:
    with site.worker(threads=2).ready():
        site.put("held_narrow", "held")
        eventually(lambda: site.runs("began") == ["held"])
        behind = site.put("held_narrow", "behind")  # its queue runs one at a time
        site.engine.pause("sabotage")
        paused = site.put("nothing")
        site.until("/readyz", 200)
        never(lambda: site.ask().failing, during=STUCK_S * 2, why="a limit or a pause is not a fault")
        assert site.ask().body["checks"]["consumption"]["value"]["idle_threads"] == 1
        site.open_gate()
        site.engine.resume("sabotage")
        site.finished(behind)
        site.finished(paused)


@pytest.mark.parametrize(
    ("sabotage", "check", "reason"),
    [
        ("kill_worker_thread", "worker_threads", "1 of 2 worker threads died."),
        ("kill_consumer_thread", "consumer_threads", "1 of 2 consumer threads died."),
        ("stop_lease_thread", "lease_thread", "The lease thread died: running jobs will be given to other workers."),
        ("freeze_lease_thread", "lease_thread", "The lease thread lives, but has renewed nothing for"),
    ],
)
def test_a_thread_that_dies_or_hangs_makes_it_unhealthy(site: Site, sabotage: str, check: str, reason: str) -> None:
    # seconds, so that a pass of the lease thread is overdue soon
    with site.worker(threads=2, lease_s=1).ready() as worker:
        site.until("/readyz", 200)
        assert site.ask().status == 200
        site.put(sabotage)
        answer = site.until("/healthz", 503)
        assert answer.failing == {check}
        assert answer.body["status"] == "unavailable"
        assert answer.body["checks"][check]["reason"].startswith(reason)
        assert site.ask("/readyz").status == 503
        eventually(lambda: '"unhealthy"' in worker.log(), why="it is logged as well")
        if sabotage == "kill_worker_thread":
            assert answer.body["checks"][check]["value"] == {"live": 1, "configured": 2}


def test_frozen_consumption_makes_it_unhealthy_until_it_thaws(site: Site) -> None:
    with site.worker(threads=2).ready() as worker:
        site.finished(site.put("freeze_consumption"))
        never(lambda: site.ask().failing, during=STUCK_S * 1.5, why="with nothing to fetch nothing is stuck")
        put_at = time.monotonic()
        waiting = site.put("nothing")
        answer = site.until("/healthz", 503)
        assert time.monotonic() - put_at > STUCK_S * 0.9, "not before its time"
        assert answer.failing == {"consumption"}
        consumption = answer.body["checks"]["consumption"]
        assert consumption["value"]["idle_threads"] == 2
        assert consumption["value"]["not_fetched_s"]["sabotage"] >= STUCK_S
        assert consumption["reason"].startswith("Jobs wait in sabotage, threads are idle, and nothing has been fetched")
        eventually(lambda: '"unhealthy"' in worker.log(), why="it is logged as well")
        (site.folder / "thaw").touch()
        site.finished(waiting)
        site.until("/healthz", 200)
        eventually(lambda: '"healthy_again"' in worker.log(), why="and that it is well again")


def test_a_server_that_is_down_makes_it_not_ready_and_leaves_it_live(
    site: Site, make_valkey: Callable[..., ValkeyServer]
) -> None:
    server = make_valkey(appendonly=True)
    here = Site(site.folder, RedisEngine.from_url(server.url), server.url, "cb")
    with here.worker(threads=2).ready():
        here.until("/readyz", 200)
        for how in (server.kill, server.pause):
            how()
            answer = here.until("/readyz", 503)
            assert answer.failing == {"server"}
            assert answer.body["checks"]["server"]["reason"].startswith("The queue server has not answered for")
            never(lambda: here.ask().status != 200, during=STUCK_S * 2, why="a restart would not help")
            server.start() if how == server.kill else server.unpause()
            here.until("/readyz", 200)


def test_a_worker_that_stops_is_live_and_not_ready(site: Site) -> None:
    with site.worker(threads=2).ready() as worker:
        site.until("/readyz", 200)
        job_id = site.put("held", "held")
        eventually(lambda: site.runs("began") == ["held"])
        worker.terminate()
        answer = site.until("/readyz", 503)
        assert answer.body["status"] == "stopping"
        # its threads end now because they were told to
        assert site.ask().status == 200
        site.open_gate()
        assert worker.wait() == 0, worker.log()
    site.finished(job_id)


def test_a_port_that_is_taken_costs_the_probe_and_not_the_worker(site: Site) -> None:
    with site.worker().ready() as first:
        site.until("/readyz", 200)
        taken = site.port
        with site.worker(port=taken).ready() as second:
            eventually(lambda: "health_not_listening" in second.log())
            first.terminate()
            assert first.wait() == 0
            site.finished(site.put("nothing"))
            # the port is free now, as when one process follows another
            site.until("/readyz", 200)
