"""``rediss://``: who is trusted, and with which certificate one shows up."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from shared.engine.engine import FinishStatus
from shared.engine.redis import RedisEngine
from shared.errors import EngineUnavailable
from tests.engine.harness import add_one, end, is_armed, take_one
from tests.servers import ValkeyServer
from tests.tls import HOST, Authority, TlsRelay
from tests.topologies import TcpServer

pytestmark = pytest.mark.needs_server


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_jobs_go_through_tls(valkey: ValkeyServer, namespace: str, authority: Authority) -> None:
    with TlsRelay(valkey.socket, authority) as relay:
        url = f"rediss://{HOST}:{relay.port}/0?ssl_ca_certs={authority.certificate}"
        with closing(RedisEngine.from_url(url, namespace)) as engine:
            job_id = add_one(engine)
            assert is_armed(engine)
            job = take_one(engine)
            assert job.id == job_id
            assert end(engine, job) is FinishStatus.COMMITTED
            assert [event.name for event in engine.events({"q": "0"}, block_ms=100)][-1] == "completed"


def test_a_server_that_a_stranger_vouches_for_is_not_trusted(
    valkey: ValkeyServer, namespace: str, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    with TlsRelay(valkey.socket, stranger) as relay:
        url = f"rediss://{HOST}:{relay.port}/0?ssl_ca_certs={authority.certificate}"
        with (
            closing(RedisEngine.from_url(url, namespace)) as engine,
            pytest.raises(EngineUnavailable, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            engine.ping()


def test_a_client_shows_its_certificate(valkey: ValkeyServer, namespace: str, authority: Authority) -> None:
    certificate, key = authority.sign("client")
    with TlsRelay(valkey.socket, authority, clients=authority) as relay:
        url = f"rediss://{HOST}:{relay.port}/0?ssl_ca_certs={authority.certificate}"
        with closing(RedisEngine.from_url(url, namespace)) as engine, pytest.raises(EngineUnavailable):
            engine.ping()
        url += f"&ssl_certfile={certificate}&ssl_keyfile={key}"
        with closing(RedisEngine.from_url(url, namespace)) as engine:
            engine.ping()


def test_a_server_that_speaks_no_tls_is_an_outage(namespace: str) -> None:
    with (
        TcpServer() as server,
        closing(RedisEngine.from_url(f"rediss://{server.address}", namespace)) as engine,
        pytest.raises(EngineUnavailable),
    ):
        engine.ping()
