"""The worker: ``dramatiq services.workers.main -p PROCESSES -t THREADS``.

Serves the family named by ``WORKER_FAMILY``, or all of them.
"""

from __future__ import annotations

import dramatiq
from dramatiq.middleware import Middleware
from structlog.stdlib import get_logger

from services.workers.bind import bind_family
from services.workers.check_server import CheckServer
from services.workers.health.middleware import Health
from services.workers.middleware import run_middleware
from services.workers.orphan import StopWithoutMaster
from shared.broker.broker import JobBroker
from shared.config import Settings, load_settings
from shared.contracts import Catalogue, discover
from shared.engine.redis import RedisEngine
from shared.log import configure_logging


def middleware(engine: RedisEngine, catalogue: Catalogue | None = None) -> list[Middleware]:
    """Give the middleware of a worker process: what acts around runs, and what is about the process."""
    return [*run_middleware(engine, catalogue), StopWithoutMaster(), CheckServer(engine.server)]


def build_broker(settings: Settings, catalogue: Catalogue) -> JobBroker:
    """Make the broker of a worker process and bind its family.

    Raises:
        ContractError: when there is no such family, or a contract names a handler that is not there.
    """
    families = catalogue.families if settings.worker_family == "all" else {}
    chosen = list(families.values()) or [catalogue.family(settings.worker_family)]
    engine = RedisEngine.from_settings(settings)
    health = Health(settings.health_host, settings.health_port, stuck_s=settings.health_stuck_s)
    broker = JobBroker(
        engine, middleware=[*middleware(engine, catalogue), health], queues=catalogue.queues, lease_s=settings.lease_s
    )
    for family in chosen:
        actors = bind_family(broker, family)
        get_logger(__name__).info("family_bound", family=family.name, types=[actor.actor_name for actor in actors])
    return broker


_settings = load_settings()
configure_logging(_settings)
dramatiq.set_broker(build_broker(_settings, discover(_settings.families_package)))
