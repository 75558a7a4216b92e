"""The commands and their options."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from shared.cli import inputs
from shared.cli.failures import UsageError

#: as the server has them
STATES = ("waiting", "delayed", "blocked", "active", "completed", "failed", "cancelled")


class _Parser(argparse.ArgumentParser):
    """Raises what argparse would print over several lines."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. See '{self.prog} --help'.")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        # Looked up only when it is asked for: that takes longer than all the rest of the parsing.
        from importlib.metadata import version

        print(f"callboard {version('callboard')}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line.

    A command's function is named, not imported, under ``command``: a module of :mod:`shared.cli.commands` and a
    function in it.
    """
    everywhere = _everywhere()
    parser = _Parser(
        prog="callboard",
        description="Send jobs to Callboard, watch them and steer them.",
        epilog="Exit codes: 0 done, 1 the job failed, 2 bad input, 3 refused, 4 no valid key, 5 server unavailable.",
        parents=[everywhere],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and end")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: str, text: str, **more: Any) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            parents=[everywhere],
            allow_abbrev=False,
            **more,
        )
        made.set_defaults(command=command)
        return made

    _add_submit(add("submit", "submit:submit", "send a job"))
    _add_import(add("import", "imports:import_file", "upload a workbook or csv file and import its rows"))
    _add_list(
        add("list", "jobs:list_jobs", "list jobs: those that run, will run and have run, the newest of each first")
    )
    watch = add("watch", "jobs:watch", "follow a job until it has finished")
    watch.add_argument("id", metavar="ID", help="id of the job")
    _add_timeout(watch)
    for name, text in (
        ("status", "show a job"),
        ("cancel", "cancel a job; a running one is asked to stop"),
        ("retry", "run a failed or cancelled job again"),
        ("promote", "let a delayed job run now"),
        ("logs", "print the lines that a job logged"),
    ):
        add(name, f"jobs:{name}", text).add_argument("id", metavar="ID", help="id of the job")
    add("queues", "queues:queues", "list the queues with their counts")
    for name, text in (
        ("pause", "stop handing out a queue's jobs; running ones go on"),
        ("resume", "hand out a paused queue's jobs again"),
    ):
        add(name, f"queues:{name}", text).add_argument("queue", metavar="QUEUE", help="name of the queue")
    add("types", "queues:types", "list the job types that the server knows")
    return parser


def _everywhere() -> _Parser:
    # Without defaults: they'd overwrite, in the command's part, what was given before the command.
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("options of every command")
    group.add_argument("--url", help="where the API answers (default: CALLBOARD_URL, or this machine's PORT)")
    group.add_argument(
        "--key",
        help="API key; other users of this machine can see it, so rather set CALLBOARD_ADMIN_KEY "
        "(default: that, or the key file in the data folder)",
    )
    group.add_argument("--json", action="store_true", help="print JSON, and errors as JSON")
    group.add_argument("--no-color", action="store_true", help="no colours (as NO_COLOR does)")
    return parser


def _add_submit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", metavar="TYPE", help="job type, see 'callboard types'")
    parser.add_argument(
        "--payload", type=inputs.payload, metavar="JSON", help="input of the job: JSON, @FILE, or - for standard input"
    )
    parser.add_argument(
        "--set",
        type=inputs.assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set one field of the payload (outer.inner=value reaches inside); may be repeated",
    )
    parser.add_argument("--priority", type=inputs.priority, help="critical, high, normal, low or an integer")
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--delay", type=inputs.duration_s, metavar="TIME", help="wait this long first: 90s, 5m, 1h30m, 2d"
    )
    when.add_argument(
        "--run-at", type=inputs.point_in_time, metavar="TIME", help="not before this time: 2026-01-31T18:00+01:00"
    )
    parser.add_argument("--attempts", type=inputs.whole(1), metavar="N", help="run it at most N times")
    parser.add_argument("--tag", action="append", default=[], metavar="TAG", help="mark the job; may be repeated")
    parser.add_argument("--owner", metavar="USER", help="id of the user on whose behalf it runs")
    parser.add_argument("--wait", action="store_true", help="follow it until it has finished")
    _add_timeout(parser)


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="xlsx, xls, xlsb, ods or csv")
    parser.add_argument("--dataset", help="where the rows go (default: terms)")
    parser.add_argument("--sheet", type=inputs.sheet, help="sheet by name or by index from 0 (default: the first)")
    parser.add_argument(
        "--header-row", type=inputs.whole(1), metavar="N", help="row with the column names, counted from 1"
    )
    parser.add_argument(
        "--map",
        type=inputs.mapping,
        action="append",
        default=[],
        metavar="A=B",
        help="column A of the file goes to column B of the dataset; may be repeated",
    )
    parser.add_argument("--conflict", choices=("update", "skip", "fail"), help="what to do with rows that are there")
    parser.add_argument("--on-error", choices=("report", "fail"), help="what to do with rows that are not valid")
    parser.add_argument(
        "--max-rejects", type=inputs.whole(0), metavar="N", help="fail when more than N rows are not valid"
    )
    parser.add_argument("--batch-size", type=inputs.whole(1), metavar="N", help="rows written in one transaction")
    parser.add_argument(
        "--report",
        nargs="?",
        const="",
        metavar="PATH",
        help="save the report of rejected rows, if there is one (without PATH: beside FILE)",
    )
    parser.add_argument("--no-wait", action="store_true", help="don't follow the import")
    _add_timeout(parser)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--queue", help="only jobs of this queue")
    parser.add_argument(
        "--state", choices=STATES, metavar="STATE", help=f"only jobs in this state: {', '.join(STATES)}"
    )
    parser.add_argument("--type", help="only jobs of this type")
    parser.add_argument("--limit", type=inputs.whole(1), default=20, metavar="N", help="at most N jobs (default: 20)")


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=inputs.duration_s, metavar="TIME", help="stop following after this long; the job goes on"
    )
