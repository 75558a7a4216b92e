"""What the conformance suite may do behind the back of an engine in memory."""

from __future__ import annotations

from collections.abc import Callable

from shared.engine.engine import Engine
from shared.engine.memory import MemoryEngine
from shared.engine.memory.ordered import Ordered
from shared.engine.memory.queue import StoredQueue


class MemoryRig:
    """A :class:`tests.engine.harness.Rig`: time passes by writing scores, or by moving the clock."""

    def __init__(self) -> None:
        self.memory = MemoryEngine()
        self.engine: Engine = self.memory

    def another(self) -> MemoryEngine:
        return self.memory

    def close(self) -> None:
        self.memory.close()

    def now_ms(self) -> int:
        return self.memory.clock.now_us() // 1000

    def queue_of(self, job_id: str) -> StoredQueue:
        return self.memory.stored(job_id.rpartition(".")[0])

    def expire(self, job_id: str) -> None:
        self.set_score("active", job_id, self.now_ms() - 1)

    def make_due(self, job_id: str, ago_ms: int = 1) -> None:
        self.set_score("delayed", job_id, self.now_ms() - ago_ms)

    def age(self, job_id: str, by_ms: int) -> None:
        job = self.queue_of(job_id).jobs[job_id]
        if job.state.finished:
            self.set_score(job.state.value, job_id, self.now_ms() - by_ms)
        else:
            job.created_ms -= by_ms

    def outlive(self, job_id: str) -> None:
        self.set_score("expires", job_id, self.now_ms() - 1)

    def stored(self) -> set[str]:
        found: set[str] = set()
        for queue in self.memory.queues():
            found |= {name for name, members in self.sets_of(queue).items() if members}
            for job_id, job in queue.jobs.items():
                found.add(f"job:{job_id[-26:]}")
                if job.log:
                    found.add(f"log:{job_id[-26:]}")
            found |= {f"lane:{group}" for group in queue.lanes or ()}
            found |= {f"key:{key}" for key in queue.keys.held(self.now_ms())}
            found |= {f"flow:{flow_id}" for flow_id in queue.flows}
            found |= {"outbox"} if queue.outbox else set()
        return found

    def skip_places(self, count: int) -> None:
        self.memory.stored("q").next_place(count)

    def forget_scripts(self) -> None:
        """There are none."""

    def pass_time(self, ms: int) -> None:
        self.memory.advance(ms / 1000)

    def rewinding(self, queue: str) -> Callable[[], None]:
        stored = self.memory.stored(queue)
        kept = list(stored.outbox)

        def put_back() -> None:
            stored.outbox.clear()
            stored.outbox.extend(kept)

        return put_back

    def dying(self, calls: int) -> MemoryEngine:
        return self.memory

    # -- what the state machine looks at --

    def sets_of(self, queue: StoredQueue) -> dict[str, Ordered]:
        return {**{state.value: members for state, members in queue.sets.items()}, "expires": queue.expires}

    def set_score(self, name: str, job_id: str, score: int) -> None:
        """Move a job within a sorted set, as time would."""
        members = self.sets_of(self.queue_of(job_id))[name]
        assert job_id in members, f"{job_id} is not {name}"
        assert members.score(job_id) != score
        members.put(job_id, score)
