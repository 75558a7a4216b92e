"""URLs of queue servers."""

from __future__ import annotations

import pytest

from shared.engine.address import Shape, parse_address


def test_a_single_server() -> None:
    address = parse_address("rediss://ann:p%40ss@queue.example:6380/2?ssl_ca_certs=/ca.pem&socket_keepalive=yes")
    assert (address.shape, address.tls) == (Shape.SINGLE, True)
    assert {name: address.options[name] for name in ("host", "port", "db", "username", "password")} == {
        "host": "queue.example",
        "port": 6380,
        "db": 2,
        "username": "ann",
        "password": "p@ss",
    }
    assert (address.options["ssl_ca_certs"], address.options["socket_keepalive"]) == ("/ca.pem", True)


def test_sentinels() -> None:
    address = parse_address("redis+sentinel://:pw@s1,s2:26380,[::1]:3/main/4?sentinel_password=other")
    assert address.shape is Shape.SENTINEL
    assert address.hosts == (("s1", 26379), ("s2", 26380), ("::1", 3))
    assert address.service == "main"
    assert address.options == {"password": "pw", "db": 4}
    assert address.sentinel_options == {"password": "other"}


def test_sentinels_over_tls_share_the_certificates() -> None:
    address = parse_address("rediss+sentinel://s1/main?ssl_ca_certs=/ca.pem")
    assert address.options == {"ssl": True, "ssl_ca_certs": "/ca.pem"}
    assert address.sentinel_options == {"ssl": True, "ssl_ca_certs": "/ca.pem"}


@pytest.mark.parametrize("end", ["", "/", "/0", "?db=0"])
def test_a_cluster(end: str) -> None:
    address = parse_address(f"redis+cluster://ann:pw@a,b:7000{end}")
    assert address.shape is Shape.CLUSTER
    assert address.hosts == (("a", 6379), ("b", 7000))
    assert address.options == {"username": "ann", "password": "pw"}


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://u:hunter2@x", "begins with 'http'"),
        ("redis://u:hunter2@h?tls=yes", "unknown parameters: tls"),
        ("redis+sentinel://u:hunter2@h", "Name the service"),
        ("redis+sentinel://u:hunter2@h/main/zero", "not the number of a database"),
        ("redis+cluster://u:hunter2@h/3", "no numbered databases"),
        ("redis+cluster://u:hunter2@h1,,h2", "is not host:port"),
        ("redis+cluster://u:hunter2@h1:port", "'h1:port' is not host:port"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_its_password(url: str, what: str) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        parse_address(url)
    assert "hunter2" not in str(caught.value)


def test_the_passwords_are_not_shown() -> None:
    assert "hunter2" not in repr(parse_address("redis+sentinel://:hunter2@h/main?sentinel_password=hunter2"))
