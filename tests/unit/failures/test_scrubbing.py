"""What is kept of a failure holds no secrets, and all the rest."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from shared.config import Settings
from shared.errors import PermanentError
from shared.failures import MESSAGE_KEPT, REDACTED, TRACEBACK_KEPT, error_fields, remember_secret, scrub, scrubbing

SECRET = "hunter2-Zx81"


@pytest.fixture(autouse=True)
def _forgets() -> Iterator[None]:
    before = set(scrubbing._own)
    yield
    scrubbing._own.clear()
    scrubbing._own.update(before)


@pytest.mark.parametrize(
    "text",
    [
        f"redis://user:{SECRET}@host:6379/0",
        f"postgresql+psycopg://:{SECRET}@host/db?x=1",
        f"Authorization: Bearer {SECRET}",
        f"Authorization: Basic {SECRET}",
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f'{{"authorization": "{SECRET}"}}',
        f"headers=[(b'authorization', b'Bearer {SECRET}')]",
        f"sent bearer {SECRET} to it",
        f"https://example.org/?api_key={SECRET}&x=1",
        f"API-Key: {SECRET}",
        f'{{"apiKey": "{SECRET}"}}',
        f"connect(password='{SECRET}', host='h')",
        f"password = {SECRET}",
        f'"client_secret": "{SECRET} and more"',
        f"access_token={SECRET}",
        f"?token={SECRET}",
        f"aws_secret_access_key={SECRET}",
        f"https://b.s3.amazonaws.com/k?X-Amz-Signature={SECRET}",
        f"Cookie: {SECRET}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
    ],
)
def test_a_secret_is_known_by_what_stands_before_it(text: str) -> None:
    assert SECRET not in scrub(text)
    assert REDACTED in scrub(text)


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "sk-proj-abcdefghijklmnop1234",
        "sk_live_abcdefghijklmnop1234",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "xoxb-123456789012-abcdef",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
        "cb_abcdefghijklmnopqrstuvwxyz0123456789-ABCDEFG",
    ],
)
def test_a_secret_is_known_by_its_looks(secret: str) -> None:
    assert scrub(f"it said {secret}, and no") == f"it said {REDACTED}, and no"


@pytest.mark.parametrize(
    "text",
    [
        "redis://user@host:6379/0",
        "https://example.org:8080/a?b=c",
        "max_tokens=500 exceeds the limit of 400 tokens",
        "2026-01-01 12:00:00 user@example.org",
        "KeyError: 'secretary'",
        "the password was wrong",
        'File "/app/services/token/handler.py", line 3, in refresh_token',
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert scrub(text) == text


def test_whom_a_url_was_for_stays() -> None:
    assert scrub(f"redis://app:{SECRET}@host:6379/0") == f"redis://app:{REDACTED}@host:6379/0"


def test_what_was_scrubbed_stays_as_it_is() -> None:
    once = scrub(f"password={SECRET} Authorization: Bearer {SECRET} redis://u:{SECRET}@h")
    assert scrub(once) == once


def test_the_processs_own_settings_are_known_by_their_values() -> None:
    Settings(
        admin_key=SecretStr("a-key-of-the-admin"),
        redis_url_override=SecretStr("redis://:p%40ssw0rd@host:6379"),
    )
    scrubbed = scrub("tried a-key-of-the-admin and p@ssw0rd and p%40ssw0rd on host")
    assert scrubbed == f"tried {REDACTED} and {REDACTED} and {REDACTED} on host"


def test_a_short_value_is_not_looked_for() -> None:
    remember_secret("a")
    assert scrub("a banana") == "a banana"


@pytest.mark.parametrize("unit", ["a-", "password", "password ", "://", "eyJ", "authorization: ", "sk-", "x"])
def test_a_hostile_text_takes_no_time(unit: str) -> None:
    text = unit * (TRACEBACK_KEPT * 4 // len(unit))
    began = time.monotonic()
    scrub(text)
    assert time.monotonic() - began < 2


def test_what_is_kept_of_an_error_is_scrubbed_and_bounded() -> None:
    def call(password: str) -> None:
        raise PermanentError(f"cannot log in with password={password} " + "x" * 5_000)

    with pytest.raises(PermanentError) as caught:
        call(SECRET)
    try:
        raise RuntimeError(f"redis://:{SECRET}@host") from caught.value
    except RuntimeError as error:
        fields = error_fields(error, retryable=False)
    assert SECRET not in str(fields)
    assert fields["message"] == f"redis://:{REDACTED}@host"
    assert len(fields["traceback"]) <= TRACEBACK_KEPT + 1
    assert len(error_fields(caught.value, retryable=False)["message"]) == MESSAGE_KEPT
    assert fields["fingerprint"]
