"""The engines that the conformance suite runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from functools import cache

import pytest

from shared.engine.engine import Engine
from tests.engine.harness import RedisRig, Rig
from tests.engine.memory_rig import MemoryRig
from tests.servers import ValkeyServer, redis_binary


def redis_rig(request: pytest.FixtureRequest) -> AbstractContextManager[Rig]:
    return closing(RedisRig(request.getfixturevalue("valkey"), request.getfixturevalue("namespace")))


def memory_rig(request: pytest.FixtureRequest) -> AbstractContextManager[Rig]:
    return closing(MemoryRig())


def cluster_rig(request: pytest.FixtureRequest) -> AbstractContextManager[Rig]:
    return closing(RedisRig(request.getfixturevalue("cluster"), request.getfixturevalue("namespace")))


def release_rig(request: pytest.FixtureRequest) -> AbstractContextManager[Rig]:
    start: Callable[[str], ValkeyServer] = request.getfixturevalue("start_release")
    return closing(RedisRig(start(request.node.callspec.params["rig"]), request.getfixturevalue("namespace")))


@pytest.fixture(scope="session")
def start_release() -> Iterator[Callable[[str], ValkeyServer]]:
    """Give a server of another release, one for all tests."""
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(ValkeyServer(binary=redis_binary(name.removeprefix("redis-")))))


#: implementation -> what it is tested with; a further engine is added here and nowhere else
RIGS: dict[str, Callable[[pytest.FixtureRequest], AbstractContextManager[Rig]]] = {
    "redis": redis_rig,
    "memory": memory_rig,
    "cluster": cluster_rig,
    "redis-6.2": release_rig,
    "redis-apt": release_rig,
}
#: those that every run of the suite tries; the others are for ``make test-shapes``
FIRST = ("redis", "memory")


@pytest.fixture(
    params=[
        pytest.param("redis", marks=pytest.mark.needs_server),
        "memory",
        *(
            pytest.param(name, marks=[pytest.mark.needs_server, pytest.mark.shapes])
            for name in RIGS
            if name not in FIRST
        ),
    ]
)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with RIGS[request.param](request) as made:
        yield made


@pytest.fixture
def engine(rig: Rig) -> Engine:
    return rig.engine
