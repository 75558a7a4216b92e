"""How the small processes of ``make run`` end: quietly, whatever they are doing."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn


def leave_when_told() -> None:
    """Turn SIGINT and SIGTERM into an ordinary exit; it interrupts a wait for the network, too."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _leave)


def _leave(_signum: int, _frame: object) -> NoReturn:
    sys.exit(0)


def stand_by() -> NoReturn:
    """Do nothing until told to leave; honcho stops everything as soon as one process ends."""
    leave_when_told()
    while True:
        signal.pause()
