"""What a running job with a contract reports: progress, log, checkpoint."""

from __future__ import annotations

from shared.engine.redis import RedisEngine
from shared.errors import LeaseLost
from tests.integration.broker.contracts import QUEUE, Probe
from tests.integration.broker.patience import eventually
from tests.integration.broker.workers import running


def test_progress_is_stored_and_told(engine: RedisEngine) -> None:
    def handler(payload, job):
        job.progress(40, "reading", rows=400)
        for percent in range(41, 100):
            job.progress(percent)
        job.progress(100, "done")

    probe = Probe(engine, handler)
    with running(probe.broker):
        job = probe.finished(probe.put())
    assert job.progress is not None
    assert (job.progress["percent"], job.progress["message"]) == (100, "done")
    told = [event.data["progress"] for event in engine.events({QUEUE: "0"}, block_ms=0) if event.name == "progress"]
    assert (told[0]["percent"], told[0]["data"]) == (40, {"rows": 400})
    assert told[-1]["percent"] == 100
    assert len(told) < 10, "reports are coalesced"


def test_log_lines_stay_with_the_job(engine: RedisEngine) -> None:
    def handler(payload, job):
        job.log("row 7 has no key", level="warning", row=7)
        job.log("done")

    probe = Probe(engine, handler)
    with running(probe.broker):
        job = probe.finished(probe.put())
    lines = [(line["level"], line["message"], line["data"]) for line in engine.logs(job.id)]
    assert lines == [("warning", "row 7 has no key", {"row": 7}), ("info", "done", {})]


def test_a_checkpoint_survives_a_retry(engine: RedisEngine) -> None:
    def handler(payload, job):
        before = job.checkpoint.load()
        if before is None:
            job.checkpoint.save(b"\x00half")
            raise OSError("after the half")
        return before.decode("latin-1")

    probe = Probe(engine, handler)
    with running(probe.broker):
        assert probe.finished(probe.put()).result == "\x00half"


def test_a_job_that_lost_its_lease_saves_no_checkpoint(engine: RedisEngine) -> None:
    ended = []

    def handler(payload, job):
        if job.token > 1:
            return job.checkpoint.load()
        engine.renew(QUEUE, [(job.job_id, job.token)], -1)
        eventually(lambda: engine.reap(QUEUE) or engine.lease_status(job.job_id, job.token) < 0)
        try:
            job.checkpoint.save(b"late")
        except LeaseLost as error:
            ended.append(type(error).__name__)
            raise

    probe = Probe(engine, handler)
    with running(probe.broker):
        assert probe.finished(probe.put()).result is None
        eventually(lambda: ended == ["LeaseLost"])


def test_a_run_that_comes_after_the_end_of_its_job_is_not_told_to_begin_anew(engine: RedisEngine) -> None:
    told = []

    def handler(payload, job):
        if job.token > 1:
            job.checkpoint.save(b"all of it")
            return "done"
        engine.renew(QUEUE, [(job.job_id, job.token)], -1)
        eventually(lambda: engine.reap(QUEUE) or engine.lease_status(job.job_id, job.token) < 0)
        # The end of a job takes its checkpoint along.
        eventually(lambda: engine.counts(QUEUE).completed == 1)
        try:
            told.append(job.checkpoint.load())
        except BaseException as error:  # an order to stop is no Exception
            told.append(type(error).__name__)
            raise

    probe = Probe(engine, handler)
    with running(probe.broker):
        assert probe.finished(probe.put()).result == "done"
        eventually(lambda: told == ["LeaseLost"])
