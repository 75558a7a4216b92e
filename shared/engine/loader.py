"""Reads the Lua scripts and resolves their includes.

A line ``-- include: lib/name.lua`` is replaced by that file, once a script.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files

_INCLUDE = re.compile(r"^-- include: (\S+)\n", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script as it is sent to the server."""

    #: file name without ``.lua``
    name: str
    source: str
    #: what EVALSHA calls it by; not a matter of security
    sha: str


@cache
def load_script(name: str) -> Script:
    """Load ``lua/<name>.lua`` with its includes.

    Raises:
        FileNotFoundError: when there is no such script or include.
    """
    folder = files("shared.engine") / "lua"
    seen: set[str] = set()

    def include(match: re.Match[str]) -> str:
        path = match.group(1)
        if path in seen:
            return ""
        seen.add(path)
        return _INCLUDE.sub(include, folder.joinpath(path).read_text("utf-8"))

    # Comments are for readers of the files; the server would keep them in memory.
    source = _COMMENT.sub("", _INCLUDE.sub(include, folder.joinpath(f"{name}.lua").read_text("utf-8")))
    return Script(name, source, sha1(source.encode(), usedforsecurity=False).hexdigest())
