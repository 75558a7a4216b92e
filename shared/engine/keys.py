"""Every Redis key is built here.

All keys of a queue share the hash tag ``{namespace:queue}``, so that one script can touch them on a Redis Cluster
and a cluster spreads the queues. Scripts receive ``meta`` in KEYS and derive the others from the same tag.
"""

from __future__ import annotations

import re

from ulid import ULID

from shared.contracts.queue import QUEUE_NAME
from shared.errors import JobNotFound, UnknownQueue

#: the part of a job id after its queue, a ULID
LOCAL_ID = re.compile(r"[0-9A-Za-z]{26}")


class Keys:
    """Names of the keys of one queue.

    Args:
        namespace: prefix that several Callboards on one server are told apart by.
        queue: name of the queue.

    Raises:
        UnknownQueue: when the name cannot be one of a queue.
    """

    __slots__ = ("events", "meta", "outbox", "prefix", "queue", "wake")

    def __init__(self, namespace: str, queue: str) -> None:
        if not QUEUE_NAME.fullmatch(queue):
            raise UnknownQueue(f"{queue!r} is not a queue name: use letters, digits, '.', '-' and '_'.")
        self.queue = queue
        #: what every key of the queue begins with
        self.prefix = f"{{{namespace}:{queue}}}:"
        #: hash: paused, pos (last place given out), lim (limits that an operator set), lg:<group> (of one group), j:lim
        #: and j:lg:<group> (the same as JSON), grouped (there were groups), turn:<priority> (the last turn),
        #: by:<state> (bytes kept), seen (when a worker called last), ob:<queue> (last step taken from its outbox)
        self.meta = self.prefix + "meta"
        #: stream of what happened
        self.events = self.prefix + "events"
        #: stream of steps that other queues are to take
        self.outbox = self.prefix + "outbox"
        #: list that idle workers block on; holds at most one element, a level and not a count
        self.wake = self.prefix + "wake"

    def job(self, local_id: str) -> str:
        """Hash of one job."""
        return f"{self.prefix}job:{local_id}"

    def log(self, local_id: str) -> str:
        """List of what the job's handler logged."""
        return f"{self.prefix}log:{local_id}"

    def flow(self, local_id: str) -> str:
        """Hash of one flow."""
        return f"{self.prefix}flow:{local_id}"

    def state(self, state: str) -> str:
        """Sorted set of the jobs in a state."""
        return self.prefix + state


def new_job_id(queue: str) -> str:
    """Make a job id that routes itself: ``<queue>.<ULID>`` (https://github.com/ulid/spec)."""
    return f"{queue}.{ULID()}"


def split_job_id(job_id: str) -> tuple[str, str]:
    """Part a job id into its queue and the id within the queue.

    Raises:
        JobNotFound: when it cannot be a job id.
    """
    queue, dot, local_id = job_id.rpartition(".")
    if not dot or not QUEUE_NAME.fullmatch(queue) or not LOCAL_ID.fullmatch(local_id):
        raise JobNotFound(f"{job_id!r} is not a job id: job ids look like 'queue.01ARZ3NDEKTSV4RRFFQ69G5FAV'.")
    return queue, local_id
