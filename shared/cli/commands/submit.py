"""Sending a job."""

from __future__ import annotations

import argparse
from typing import Any

from shared.cli.following import follow
from shared.cli.inputs import merge
from shared.cli.sending import send, tell_sent
from shared.cli.session import Session


def submit(session: Session, args: argparse.Namespace) -> int:
    """Send a job, and follow it if that is asked for."""
    payload = merge(args.payload or {}, args.set)
    job = send(session, args.type, payload, **_options(args))
    return follow(session, job["id"], timeout_s=args.timeout) if args.wait else tell_sent(session, job)


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
