"""What acts around every run of a job."""

from __future__ import annotations

from dramatiq.middleware import AsyncIO, Middleware, ShutdownNotifications

from services.workers.event_loop import DaemonAsyncIO
from shared.broker.middleware.jobs import Jobs
from shared.broker.middleware.stopping import Stopping
from shared.contracts import Catalogue
from shared.engine.engine import Engine


def run_middleware(
    engine: Engine, catalogue: Catalogue | None = None, *, event_loop: AsyncIO | None = None
) -> list[Middleware]:
    """Give what acts around runs, in the order in which it acts before one (after it: the other way round).

    Args:
        engine: where running jobs report to.
        catalogue: job types that handlers may enqueue.
        event_loop: what runs async handlers.
    """
    return [
        # the outcome: last of all to act after a run, so that it sees what the others did
        Jobs(engine, catalogue),
        # the event loop that async handlers run on
        event_loop or DaemonAsyncIO(),
        # a worker that is told to stop may interrupt jobs that asked for it
        ShutdownNotifications(),
        # runs out of time, cancelled, or lost to another worker; needs what the first of these gives a job
        Stopping(),
    ]
