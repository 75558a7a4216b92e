"""Handlers with ``isolation="process"``: each run in a process of its own, which can be killed with all it started.

Nothing is imported here: the process (``child.py``) should not pay for what only the worker (``parent.py``) needs.
"""
