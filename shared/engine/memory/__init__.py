"""The queue in the memory of one process: no server, same behaviour (``tests/engine`` runs on both)."""

from __future__ import annotations

from shared.engine.memory.clock import Clock
from shared.engine.memory.engine import MemoryEngine

__all__ = ["Clock", "MemoryEngine"]
