"""Connections: URLs, transactions of writers, and what an error may tell."""

import threading

import pytest
from sqlalchemy.exc import OperationalError

from shared.database import begin_write, connect, describe_error
from shared.database.engine import database_url
from shared.errors import ContractError


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_every_spelling_of_postgresql_takes_the_driver_that_is_installed(scheme):
    url = database_url(f"{scheme}://user:secret@host/name")
    assert url.drivername == "postgresql+psycopg"
    assert (url.username, url.password, url.host, url.database) == ("user", "secret", "host", "name")


@pytest.mark.parametrize("url", ["mysql://user:secret@host/name", "not a url secret", ""])
def test_another_database_is_refused_without_repeating_the_url(url):
    with pytest.raises(ContractError, match="sqlite:///PATH or postgresql://") as caught:
        connect(url)
    assert "secret" not in str(caught.value)


def test_sqlite_is_set_up_for_many_processes(sqlite_url):
    engine = connect(sqlite_url)
    with engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        }
    engine.dispose()
    assert settings == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 30_000, "synchronous": 2}


def test_writers_that_read_first_wait_for_each_other(any_url):
    engine = connect(any_url)
    with begin_write(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE counter (value INTEGER)")
        connection.exec_driver_sql("INSERT INTO counter VALUES (0)")

    def add() -> None:
        for _ in range(20):
            with begin_write(engine) as connection:
                locked = " FOR UPDATE" if connection.dialect.name == "postgresql" else ""
                value = connection.exec_driver_sql(f"SELECT value FROM counter{locked}").scalar_one()
                connection.exec_driver_sql(f"UPDATE counter SET value = {value + 1}")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT value FROM counter").scalar_one() == 80
    engine.dispose()


def test_a_transaction_that_fails_leaves_nothing(any_url):
    engine = connect(any_url)
    with pytest.raises(ZeroDivisionError), begin_write(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE gone (value INTEGER)")
        raise ZeroDivisionError
    with pytest.raises(Exception, match="gone"), engine.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM gone")
    engine.dispose()


def test_the_password_is_in_no_error():
    engine = connect("postgresql://user:hunter2@127.0.0.1:1/name")
    with pytest.raises(OperationalError) as caught, engine.connect():
        pass
    engine.dispose()
    assert "hunter2" not in str(caught.value) + describe_error(caught.value)
