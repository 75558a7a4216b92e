"""What processes take of the memory, and whether the kernel killed one for want of it.

A limit is enforced by looking and not by ``RLIMIT_AS``: that one counts address space, of which numpy, torch, thread
stacks and the allocator's arenas reserve many times what they use, and it counts each process for itself. What is
looked at here is what the whole group has in memory. Between two looks a run may take more than its limit: the limit
of the container is the hard one.
"""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")


def group_rss_bytes(group: int, proc: Path = _PROC) -> int:
    """Add up the resident memory of a process group, bytes; 0 where that cannot be told.

    What its processes share is counted for each of them.
    """
    pages = 0
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    try:
        entries = [entry for entry in os.listdir(proc) if entry.isdigit()]  # noqa: PTH208 - ten times a second
    except OSError:
        return 0
    for entry in entries:
        try:
            # The program's name may hold anything; after it come state, parent, group … and 19 further on the size.
            fields = (proc / entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if len(fields) > 21 and int(fields[2]) == group:
            pages += int(fields[21])
    return pages * page_bytes


def oom_kills(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int | None:
    """Count the processes of our control group that the kernel killed for want of memory; None where none tells."""
    for path in _counters(proc, cgroup):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return None


def _counters(proc: Path, cgroup: Path) -> list[Path]:
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    paths: list[Path] = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        group = group.lstrip("/")
        # In a container the path may be the host's, while its own group is mounted as the root.
        if not controllers:
            paths += [cgroup / group / "memory.events", cgroup / "memory.events"]
        elif "memory" in controllers.split(","):
            paths += [cgroup / "memory" / group / "memory.oom_control", cgroup / "memory" / "memory.oom_control"]
    return paths
