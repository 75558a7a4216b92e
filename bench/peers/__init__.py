"""One small program a peer: ``python -m bench.peers.NAME ACTION URL CONCURRENCY JOBS`` prints JSON lines.

Actions: ``version``; ``enqueue`` (one by one) and further ways to send, ``bulk`` and ``parallel``; ``latency`` (send at
a slow, even pace); ``work`` (say ``{"ready": true}``, then run jobs until killed). A ``-keep`` at the end of an action
stands for jobs that stay after they have finished. What ran is told by :mod:`bench.peers.runs`.

The programs run in different environments, so they import nothing of Callboard but that (``callboard`` aside).
"""
