"""What the parts of RedisEngine stand on: scripts, commands and keys of a queue."""

from __future__ import annotations

from typing import Any

from shared.engine.keys import Keys, split_job_id
from shared.engine.loader import load_script
from shared.engine.server import Server
from shared.errors import JobNotFound, WrongState


class RedisCommands:
    """Calls to a server in the words of a queue.

    Args:
        server: the connections.
        namespace: prefix of every key.
    """

    def __init__(self, server: Server, namespace: str = "cb") -> None:
        self._server = server
        self._namespace = namespace
        self._keys: dict[str, Keys] = {}

    def _of(self, queue: str) -> Keys:
        keys = self._keys.get(queue)
        if keys is None:
            keys = self._keys[queue] = Keys(self._namespace, queue)
        return keys

    def _run(self, name: str, queue: str, *args: Any) -> Any:
        return self._server.run(load_script(name), self._of(queue).meta, args)

    def _call(self, *command: Any) -> Any:
        return self._server.call(*command)

    def _steer(self, script: str, job_id: str, refusal: str, *args: Any) -> Any:
        queue, local_id = split_job_id(job_id)
        reply = self._run(script, queue, local_id, *args)
        if reply == -1:
            raise JobNotFound(f"There is no job {job_id!r}; it may have been removed by retention.")
        if reply == -2:
            raise WrongState(f"Job {job_id!r} {refusal}.")
        return reply
