"""Python imports this before anything else: the process's wall clock goes wrong by what a dial says.

That is ``time.time`` and ``time.time_ns``, from which everything here takes the time of day. The monotonic clock is
left alone, as the kernel does when somebody sets the clock.
"""

import os
import time
from pathlib import Path

from tests.faults.storm.dial import Dial

if "STORM_CLOCK" in os.environ:
    _dial = Dial(Path(os.environ["STORM_CLOCK"]))
    _right, _right_ns = time.time, time.time_ns
    time.time = lambda: _right() + _dial.read()
    time.time_ns = lambda: _right_ns() + int(_dial.read() * 1e9)
