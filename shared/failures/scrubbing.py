"""Keeps secrets out of what is stored with a failed job: messages and tracebacks quote requests, URLs and settings."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

REDACTED = "[redacted]"

#: a shorter value would be found in innocent words
_SHORTEST_SECRET = 6
#: values of this process's own settings
_own: set[str] = set()

_NAMES = (
    r"pass(?:word|wd|phrase)|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|api[_-]?key|access[_-]?key(?:[_-]?id)?|"
    r"private[_-]?key|"
    r"token|credentials?|x-amz-signature|cookie"
)
#: what to look for -> what to leave; the first ones take whole values that later ones would take in part
_TABLE: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.{0,8000}?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        REDACTED,
    ),
    # redis://user:password@host; what is left tells whom it was for
    (re.compile(r"(://[^/\s:@'\"]{0,200}):[^/\s@'\"]{1,500}@"), rf"\1:{REDACTED}@"),
    # Authorization: Bearer …, in the notations of HTTP, JSON and Python
    (
        re.compile(
            r"(authorization['\"]?\s{0,3}[:=,]\s{0,3}(?:b(?=['\"]))?['\"]?(?:(?:bearer|basic|token|digest|apikey)\s{1,3})?)"
            r"(?!\[redacted\]|(?:bearer|basic|token|digest|apikey)\s)[^\s'\",}\]]+",
            re.IGNORECASE,
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"\b(bearer|basic)\s{1,3}[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1 {REDACTED}"),
    # password=…, "api_key": "…", ?token=…
    (
        re.compile(
            rf"({_NAMES})(['\"]?\s{{0,3}}[:=]\s{{0,3}}(?:b(?=['\"]))?)"
            rf"(?:\"[^\"\n]*\"|'[^'\n]*'|(?!\[redacted\])[^\s,;&'\")}}\]]+)",
            re.IGNORECASE,
        ),
        rf"\1\2{REDACTED}",
    ),
    # keys that are known by their looks: AWS, OpenAI and Anthropic, Stripe, GitHub, Slack, Google, JWTs, our own
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), REDACTED),
    (re.compile(r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}"), REDACTED),
    (re.compile(r"\b(?:gh[oprsu]|github_pat)_[A-Za-z0-9_]{20,}"), REDACTED),
    (re.compile(r"\bxox[abeprs]-[A-Za-z0-9-]{10,}"), REDACTED),
    (re.compile(r"\bAIza[A-Za-z0-9_-]{30,}"), REDACTED),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), REDACTED),
    (re.compile(r"\bcb_[A-Za-z0-9_-]{40,}"), REDACTED),
)


def remember_secret(value: str) -> None:
    """Scrub a value from now on, wherever it stands; of a URL, its password.

    Settings call it for each of their secret fields.
    """
    if "://" in value:
        try:
            password = urlsplit(value).password or ""
        except ValueError:
            return
        values = {password, unquote(password)}
    else:
        values = {value}
    _own.update(value for value in values if len(value) >= _SHORTEST_SECRET)


def scrub(text: str) -> str:
    """Give a text without the secrets that can be told by their looks, their name, or this process's settings."""
    for value in sorted(_own, key=len, reverse=True):
        text = text.replace(value, REDACTED)
    for pattern, left in _TABLE:
        text = pattern.sub(left, text)
    return text
