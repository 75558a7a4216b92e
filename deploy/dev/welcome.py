"""The last line of ``make run``: says where to look and, on the first start, shows a job from end to end.

The sample goes through the public REST API like anybody's workbook would, so that a working first start proves the
API, the queue server, the worker and the database.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NoReturn

import httpx

from deploy.dev.environment import ROOT
from deploy.dev.stopping import leave_when_told, stand_by
from shared.client import Client, Job, WaitTimedOut
from shared.config import Settings, load_settings
from shared.errors import CallboardError

#: how long the API and a worker have to come up, in seconds
START_LIMIT_S = 120

#: how long the sample import may take, in seconds; it takes about one
SAMPLE_LIMIT_S = 120

#: exists once the sample has been imported into this data folder
MARKER = "welcomed"


def say(line: str = "") -> None:
    """Print a line at once; honcho reads it through a pipe."""
    print(line, flush=True)


def is_ready(url: str) -> bool:
    """Tell whether the API answers, and reaches what it needs."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def wait_until_ready(url: str) -> bool:
    """Wait for the API; False if it did not come up in time."""
    deadline = time.monotonic() + START_LIMIT_S
    while not is_ready(url):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def admin_key(settings: Settings) -> str:
    """Return the key of the administrator: the configured one, or the one that the API made on its first start."""
    if settings.admin_key is not None:
        return settings.admin_key.get_secret_value()
    return settings.admin_key_path.read_text().strip()


def shown(path: Path) -> str:
    """Write a path the way somebody in the checkout would type it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def say_where(settings: Settings) -> None:
    """Print where everything is."""
    key_source = "CALLBOARD_ADMIN_KEY" if settings.admin_key is not None else shown(settings.admin_key_path)
    say()
    say("Callboard is up.")
    say(f"  API      {settings.api_url}/api/v1   (health: /readyz)")
    say(f"  Key      {key_source}   (send it as: Authorization: Bearer KEY)")
    say("  Shell    ./callboard --help   for example: ./callboard import samples/terms.xlsx")
    say("  Docs     README.md, docs/architecture.md, docs/job-lifecycle.md")
    say("  Stop     Ctrl-C; jobs and data stay in " + shown(settings.data_dir.absolute()))
    say()


def progress_line(job: Job) -> str:
    """Put a job's state and progress into a line."""
    line = f"  {job['state']:<10}"
    if progress := job["progress"]:
        line += f" {progress['percent']:>5.0f} %  {progress['message'] or ''}"
    return line.rstrip()


def import_sample(settings: Settings) -> bool:
    """Import the sample workbook through the REST API and show what happens; True if it completed."""
    sample = ROOT / "samples" / "terms.xlsx"
    say(f"First start: importing {shown(sample)} through the API")
    lines: list[str] = []

    def show(job: Job) -> None:
        line = progress_line(job)
        if line not in lines[-1:]:
            lines.append(line)
            say(line)

    with Client(settings.local_url, admin_key(settings)) as client:
        stored = client.upload(sample)
        job = client.submit("imports.excel", {"file_id": stored["id"], "dataset": "terms"})
        say(f"  job {job['id']}")
        try:
            ended = client.wait(job["id"], on_progress=show, timeout_s=SAMPLE_LIMIT_S)
        except WaitTimedOut:
            say(f"  not finished after {SAMPLE_LIMIT_S} s; follow it with: ./callboard watch {job['id']}")
            return False
    if ended["state"] != "completed":
        say(f"  {ended['state']}: {ended['error']['message'] if ended['error'] else 'no reason recorded'}")
        return False
    result = ended["result"]
    say("  " + "  ".join(f"{name} {result[name]}" for name in ("read", "inserted", "updated", "skipped", "rejected")))
    say()
    return True


def main() -> NoReturn:
    """Greet, show the sample once for each data folder, and stand by until stopped.

    Raises:
        SystemExit: if the API did not come up, or at the stop.
    """
    leave_when_told()
    settings = load_settings()
    if not wait_until_ready(settings.local_url):
        raise SystemExit(
            f"{settings.local_url}/readyz did not answer within {START_LIMIT_S} s; the lines above say why"
        )
    say_where(settings)
    marker = settings.data_dir / MARKER
    if not marker.exists():
        try:
            if import_sample(settings):
                marker.touch()
        except (CallboardError, OSError) as error:
            # A failed greeting is no reason to stop what the user started.
            say(f"  the sample import did not work: {error}")
    stand_by()


if __name__ == "__main__":
    main()
