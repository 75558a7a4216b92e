"""Tells whether two failures are the same bug."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterator
from pathlib import PurePath
from types import FrameType

#: characters of a fingerprint
LENGTH = 16
#: errors of a chain and frames of each that count; the innermost ones
_CHAIN, _FRAMES = 8, 40
#: what stands between a worker and a handler, which says nothing about the bug and changes with releases
_PLUMBING = (
    "asyncio.",
    "concurrent.futures.",
    "dramatiq.",
    "runpy",
    "services.workers.bind",
    "services.workers.isolation",
    "services.workers.kinds",
    "shared.broker.",
)


def fingerprint(error: BaseException) -> str:
    """Give a short hex text that is the same for every failure of the same kind at the same place.

    It is made of the types and the functions that the error and its causes passed through: no line numbers, no
    messages, no folders and no addresses, so that it survives an edit elsewhere in the file and is the same on every
    machine.
    """
    digest = hashlib.sha256()
    for link in _chain(error):
        digest.update(f"{type(link).__module__}.{type(link).__qualname__}\n".encode())
        for frame in _frames(link):
            digest.update(f"  {frame}\n".encode())
    return digest.hexdigest()[:LENGTH]


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting and len(seen) < _CHAIN:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        if isinstance(link, BaseExceptionGroup):
            waiting.extend(link.exceptions)
        cause = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
        if cause is not None:
            waiting.append(cause)


def _frames(error: BaseException) -> list[str]:
    names: list[str] = []
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module, function = _place(frame)
        if not names and f"{module}.".startswith(_PLUMBING):
            continue
        place = f"{module}:{function}"
        # How deep a recursion was does not make it another bug.
        if place not in names[-4:]:
            names.append(place)
    return names[-_FRAMES:]


def _place(frame: FrameType) -> tuple[str, str]:
    module = str(frame.f_globals.get("__name__") or "")
    if module in ("", "__main__"):
        # a script, or code without a module: its file's name, which no folder is part of
        module = PurePath(frame.f_code.co_filename).stem
    return module, frame.f_code.co_qualname
