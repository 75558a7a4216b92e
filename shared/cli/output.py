"""Where a command's answers go: one JSON document, or text for people."""

from __future__ import annotations

import json
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

#: wide enough that nothing is cut where no terminal gives a width
_NO_TERMINAL_WIDTH = 10_000


class Output:
    """Prints answers to stdout and what happens meanwhile to stderr.

    Args:
        as_json: print JSON, and nothing but.
        no_color: print no colours; ``NO_COLOR`` in the environment does the same (rich sees to that).
    """

    def __init__(self, *, as_json: bool, no_color: bool) -> None:
        self.as_json = as_json
        self._no_color = no_color
        for stream in (sys.stdout, sys.stderr):
            # An answer with a letter that the terminal's encoding lacks is shown with a '?', not as a traceback.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")

    @property
    def live(self) -> bool:
        """Whether stderr is a terminal on which a line can be redrawn."""
        return sys.stderr.isatty() and not self.notes.is_dumb_terminal

    @cached_property
    def notes(self) -> Console:
        """Stderr, for people."""
        return self._console(sys.stderr)

    def document(self, value: Any) -> None:
        """Print JSON: indented for a terminal, in one line for programs, of which some read lines."""
        indent = 2 if sys.stdout.isatty() else None
        ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        print(json.dumps(value, indent=indent, ensure_ascii=ascii_only), flush=True)

    def json_line(self, value: Any) -> None:
        """Print JSON in one line, and at once."""
        print(json.dumps(value), flush=True)

    def show(self, *parts: RenderableType) -> None:
        """Print for people."""
        for part in parts:
            with self._stdout.capture() as captured:
                self._stdout.print(part, soft_wrap=isinstance(part, str), markup=False, highlight=False)
            # Padding to the full width makes lines that wrap when the window shrinks, and differences in files.
            for line in captured.get().splitlines():
                print(line.rstrip())
        # Before whatever is told on stderr next.
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Tell people what happens, on stderr; with JSON, nobody."""
        if not self.as_json:
            print(text, file=sys.stderr, flush=True)

    @cached_property
    def _stdout(self) -> Console:
        return self._console(sys.stdout)

    def _console(self, stream: TextIO) -> Console:
        from rich.console import Console

        return Console(
            file=stream,
            no_color=self._no_color or None,
            width=None if stream.isatty() else _NO_TERMINAL_WIDTH,
            highlight=False,
            emoji=False,
        )
