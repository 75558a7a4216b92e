"""The engines that the conformance suite runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing

import pytest

from shared.engine.engine import Engine
from tests.engine.harness import RedisRig, Rig


def redis_rig(request: pytest.FixtureRequest) -> AbstractContextManager[Rig]:
    return closing(RedisRig(request.getfixturevalue("valkey"), request.getfixturevalue("namespace")))


def cluster_rig(request: pytest.FixtureRequest) -> AbstractContextManager[Rig]:
    return closing(RedisRig(request.getfixturevalue("cluster"), request.getfixturevalue("namespace")))


#: implementation -> what it is tested with; a further engine is added here and nowhere else
RIGS: dict[str, Callable[[pytest.FixtureRequest], AbstractContextManager[Rig]]] = {
    "redis": redis_rig,
    "cluster": cluster_rig,
}


@pytest.fixture(
    params=[
        pytest.param("redis", marks=pytest.mark.needs_server),
        pytest.param("cluster", marks=[pytest.mark.needs_server, pytest.mark.shapes]),
    ]
)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with RIGS[request.param](request) as made:
        yield made


@pytest.fixture
def engine(rig: Rig) -> Engine:
    return rig.engine
