"""What a failed run means and what is kept of it: whether to try again, which bug it was, and no secrets."""

from shared.failures.classifier import ErrorTable, Verdict, classify
from shared.failures.description import MESSAGE_KEPT, TRACEBACK_KEPT, DescribedError, error_fields
from shared.failures.fingerprint import fingerprint
from shared.failures.scrubbing import REDACTED, remember_secret, scrub

__all__ = [
    "MESSAGE_KEPT",
    "REDACTED",
    "TRACEBACK_KEPT",
    "DescribedError",
    "ErrorTable",
    "Verdict",
    "classify",
    "error_fields",
    "fingerprint",
    "remember_secret",
    "scrub",
]
