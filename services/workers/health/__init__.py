"""Whether this worker process works: two addresses that answer, and what stands behind them.

``middleware`` ties it to the life of Dramatiq's worker, ``monitor`` asks the queue server on a thread of its own,
``checks`` judges what was seen, ``probe`` answers over HTTP. docs/operations.md has the answers and who reads them.
"""
