"""The worker: ``dramatiq services.workers.main -p PROCESSES -t THREADS``.

Serves the family named by ``WORKER_FAMILY``, or all of them.
"""

from __future__ import annotations

import dramatiq
from dramatiq.middleware import AsyncIO, Middleware, ShutdownNotifications
from structlog.stdlib import get_logger

from services.workers.bind import bind_family
from services.workers.check_server import CheckServer
from services.workers.orphan import StopWithoutMaster
from shared.broker.broker import JobBroker
from shared.broker.middleware.jobs import Jobs
from shared.broker.middleware.time_limit import RunTimeLimit
from shared.config import Settings, load_settings
from shared.contracts import Catalogue, discover
from shared.engine.redis import RedisEngine
from shared.log import configure_logging


def middleware(engine: RedisEngine) -> list[Middleware]:
    """Give the middleware of a worker, in the order in which it acts before a run (after it: the other way round)."""
    return [
        # the outcome: last of all to act after a run, so that it sees what the others did
        Jobs(engine),
        # the event loop that async handlers run on
        AsyncIO(),
        # a worker that is told to stop may interrupt jobs that asked for it
        ShutdownNotifications(),
        # nearest to the run, so that its clock covers nothing else
        RunTimeLimit(interval=250),
        # about the process, not about runs
        StopWithoutMaster(),
        CheckServer(engine.server),
    ]


def build_broker(settings: Settings, catalogue: Catalogue) -> JobBroker:
    """Make the broker of a worker process and bind its family.

    Raises:
        ContractError: when there is no such family, or a contract names a handler that is not there.
    """
    families = catalogue.families if settings.worker_family == "all" else {}
    chosen = list(families.values()) or [catalogue.family(settings.worker_family)]
    engine = RedisEngine.from_settings(settings)
    broker = JobBroker(engine, middleware=middleware(engine), queues=catalogue.queues, lease_s=settings.lease_s)
    for family in chosen:
        actors = bind_family(broker, family)
        get_logger(__name__).info("family_bound", family=family.name, types=[actor.actor_name for actor in actors])
    return broker


_settings = load_settings()
configure_logging(_settings)
dramatiq.set_broker(build_broker(_settings, discover(_settings.families_package)))
