"""Stands in for the process that parses a workbook and takes for ever."""

import signal

signal.pause()
