"""Stands in for the process that parses a workbook and is killed for its memory."""

import os
import signal

os.kill(os.getpid(), signal.SIGKILL)
