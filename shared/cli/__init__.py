"""The command line: ``callboard COMMAND …``, a client of the REST API like any other.

Nothing heavy is imported before the arguments are understood, so that ``--help`` and a typing mistake are answered
at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from shared.cli.failures import ExitCode, Interrupted, describe, report
from shared.errors import CallboardError

if TYPE_CHECKING:
    import argparse

    from shared.cli.session import Command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; those of the process when left out.

    Returns:
        the exit code, one of :class:`shared.cli.failures.ExitCode`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Asked before the arguments are parsed, since a mistake in them is told as JSON, too.
    as_json = "--json" in arguments
    try:
        return _main(arguments)
    except SystemExit as stop:  # argparse, after --help and --version
        return int(stop.code or 0)
    except KeyboardInterrupt:
        report("Stopped.", as_json=as_json, code=Interrupted.code)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return ExitCode.BROKEN_PIPE
    except (CallboardError, OSError) as error:
        failure = describe(error)
        report(failure.line, as_json=as_json, code=failure.code, **failure.fields)
        return failure.exit_code
    except Exception as error:  # noqa: BLE001 - an exit code of its own tells a fault of ours from a failed job
        import traceback

        traceback.print_exception(error)
        return ExitCode.INTERNAL


def _main(arguments: list[str]) -> int:
    from shared.cli.arguments import build_parser
    from shared.cli.session import Session

    args = build_parser().parse_args(arguments)
    with Session(args) as session:
        code = _command(args)(session, args)
    # Here and not at the interpreter's end, where a closed pipe would show as a traceback.
    sys.stdout.flush()
    return code


def _command(args: argparse.Namespace) -> Command:
    module, _, name = args.command.partition(":")
    return cast("Command", getattr(importlib.import_module(f"shared.cli.commands.{module}"), name))


def _drop_output() -> None:
    """Let the interpreter's last flush go nowhere, now that whoever read our output has gone."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass  # not a stream of the operating system: nothing will be flushed to a closed pipe
