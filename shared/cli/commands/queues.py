"""Commands about queues and the catalogue."""

from __future__ import annotations

import argparse

from shared.cli import tables
from shared.cli.failures import ExitCode
from shared.cli.session import Session


def queues(session: Session, _args: argparse.Namespace) -> int:
    """List the queues."""
    found = session.client.queues()
    if session.out.as_json:
        session.out.document({"queues": found})
    else:
        session.out.show(tables.queues_table(found))
    return ExitCode.OK


def pause(session: Session, args: argparse.Namespace) -> int:
    """Pause a queue."""
    queue = session.client.pause(args.queue)
    if session.out.as_json:
        session.out.document(queue)
    else:
        session.out.show(f"{queue['name']} is paused; its running jobs go on.")
    return ExitCode.OK


def resume(session: Session, args: argparse.Namespace) -> int:
    """Resume a queue."""
    queue = session.client.resume(args.queue)
    if session.out.as_json:
        session.out.document(queue)
    else:
        session.out.show(f"{queue['name']} hands out its jobs again.")
    return ExitCode.OK


def types(session: Session, _args: argparse.Namespace) -> int:
    """List the job types."""
    found = session.client.types()
    if session.out.as_json:
        session.out.document({"types": found})
    else:
        session.out.show(tables.types_table(found))
    return ExitCode.OK
