"""Where the API is, as the settings tell it."""

from __future__ import annotations

import pytest

from shared.config import Settings


@pytest.mark.parametrize(
    ("host", "url"),
    [
        (None, "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("192.0.2.7", "http://192.0.2.7:8000"),
        ("2001:db8::7", "http://[2001:db8::7]:8000"),
        ("box.local", "http://box.local:8000"),
    ],
)
def test_the_api_is_looked_for_where_it_listens(monkeypatch: pytest.MonkeyPatch, host: str | None, url: str) -> None:
    for name in ("PORT", "CALLBOARD_URL", "CALLBOARD_HOST"):
        monkeypatch.delenv(name, raising=False)
    if host is not None:
        monkeypatch.setenv("CALLBOARD_HOST", host)
    settings = Settings()
    assert settings.local_url == url
    assert settings.api_url == url


def test_a_public_name_is_for_clients_and_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBOARD_URL", "https://jobs.example.com/")
    monkeypatch.setenv("PORT", "8001")
    monkeypatch.delenv("CALLBOARD_HOST", raising=False)
    settings = Settings()
    assert settings.api_url == "https://jobs.example.com"
    assert settings.local_url == "http://127.0.0.1:8001"
