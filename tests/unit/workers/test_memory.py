"""Reading what the kernel tells of memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.workers.isolation.memory import group_rss_bytes, oom_kills

V2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("group", "file", "text", "count"),
    [
        ("0::/kubepods/pod1/abc", "kubepods/pod1/abc/memory.events", V2, 2),
        ("0::/kubepods/pod1/abc", "memory.events", V2, 2),
        ("0::/", "memory.events", V2, 2),
        ("8:memory:/docker/abc\n0::/", "memory/docker/abc/memory.oom_control", V1, 5),
        ("4:cpu,memory:/docker/abc", "memory/memory.oom_control", V1, 5),
        ("0::/", "memory.events", "low 0\n", None),
        ("0::/", "nowhere", "", None),
    ],
)
def test_the_kernels_kills_are_counted(tmp_path: Path, group: str, file: str, text: str, count: int | None) -> None:
    write(tmp_path / "proc" / "self" / "cgroup", f"{group}\n")
    write(tmp_path / "cgroup" / file, text)
    assert oom_kills(tmp_path / "proc", tmp_path / "cgroup") == count


def test_without_proc_nobody_tells(tmp_path: Path) -> None:
    assert oom_kills(tmp_path, tmp_path) is None
    assert group_rss_bytes(1, tmp_path / "nowhere") == 0


def stat(name: str, group: int, pages: int) -> str:
    fields = ["S", "1", str(group), *["0"] * 18, str(pages), *["0"] * 20]
    return f"7 ({name}) {' '.join(fields)}\n"


def test_the_memory_of_a_group_is_that_of_all_its_processes(tmp_path: Path) -> None:
    write(tmp_path / "10" / "stat", stat("python", 10, 100))
    write(tmp_path / "11" / "stat", stat("a) S 1 10 (b", 10, 20))
    write(tmp_path / "12" / "stat", stat("other", 12, 5_000))
    (tmp_path / "13").mkdir()
    write(tmp_path / "self" / "stat", stat("python", 10, 7))
    assert group_rss_bytes(10, tmp_path) == 120 * os.sysconf("SC_PAGE_SIZE")


def test_our_own_group_takes_what_we_do() -> None:
    assert group_rss_bytes(os.getpgrp()) > 10 << 20
