"""What job types and queues promise: declared by families, validated when loaded, never when run."""

from shared.contracts.backoff import Backoff, ExponentialBackoff, FixedBackoff
from shared.contracts.catalogue import Catalogue, discover
from shared.contracts.family import FamilyContract
from shared.contracts.job import JobContract
from shared.contracts.payload import Payload, validate_payload, validation_failed
from shared.contracts.priority import PRIORITY_MAX, PRIORITY_MIN, Priority, parse_priority
from shared.contracts.queue import QueueContract, QueueLimits, RateLimit, Retention

__all__ = [
    "PRIORITY_MAX",
    "PRIORITY_MIN",
    "Backoff",
    "Catalogue",
    "ExponentialBackoff",
    "FamilyContract",
    "FixedBackoff",
    "JobContract",
    "Payload",
    "Priority",
    "QueueContract",
    "QueueLimits",
    "RateLimit",
    "Retention",
    "discover",
    "parse_priority",
    "validate_payload",
    "validation_failed",
]
