"""Sending a job."""

from __future__ import annotations

import argparse
from typing import Any

from shared.cli.failures import ExitCode
from shared.cli.following import follow
from shared.cli.inputs import merge
from shared.cli.session import Session


def submit(session: Session, args: argparse.Namespace) -> int:
    """Send a job, and follow it if that is asked for."""
    payload = merge(args.payload or {}, args.set)
    job = session.client.submit(args.type, payload, **_options(args))
    if args.wait:
        return follow(session, job["id"], timeout_s=args.timeout)
    if session.out.as_json:
        session.out.document(job)
    else:
        session.out.show(job["id"])
        session.out.note(f"Follow it with: callboard watch {job['id']}")
    return ExitCode.OK


def _options(args: argparse.Namespace) -> dict[str, Any]:
    options = {
        "priority": args.priority,
        "delay_s": args.delay,
        "run_at": args.run_at,
        "attempts": args.attempts,
        "tags": args.tag or None,
        "owner": args.owner,
    }
    return {name: value for name, value in options.items() if value is not None}
