"""Handlers with ``isolation="process"``: each run in a process of its own, which can be killed with all it started."""

from services.workers.isolation.parent import run_isolated

__all__ = ["run_isolated"]
