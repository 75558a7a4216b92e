"""The last line of ``make run``: says where to look and, on the first start, shows a job from end to end.

The sample goes through the public REST API like anybody's workbook would, so that a working first start proves the
API, the queue server, the worker and the database.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import httpx

from deploy.dev.environment import ROOT
from deploy.dev.stopping import StopRequest
from shared.client import FINISHED, Client, Job
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


def wait_until_ready(url: str, stop: StopRequest) -> bool:
    """Wait for the API; False if it did not come up in time or a stop was asked for."""
    deadline = time.monotonic() + START_LIMIT_S
    while not is_ready(url):
        if stop.wait(0.2) or time.monotonic() > deadline:
            return False
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


def watch(client: Client, job_id: str, stop: StopRequest) -> Job | None:
    """Print a job's progress until it ends; None if it takes too long or a stop was asked for."""
    deadline = time.monotonic() + SAMPLE_LIMIT_S
    last = ""
    while time.monotonic() < deadline and not stop.made:
        job = client.job(job_id)
        line = f"  {job['state']:<10}"
        if progress := job["progress"]:
            line += f" {progress['percent']:>5.0f} %  {progress['message'] or ''}".rstrip()
        if line != last:
            say(line)
            last = line
        if job["state"] in FINISHED:
            return job
        stop.wait(0.1)
    return None


def import_sample(settings: Settings, stop: StopRequest) -> bool:
    """Import the sample workbook through the REST API and show what happens; True if it completed."""
    sample = ROOT / "samples" / "terms.xlsx"
    say(f"First start: importing {shown(sample)} through the API")
    with Client(settings.api_url, admin_key(settings)) as client:
        stored = client.upload(sample)
        job = client.submit("imports.excel", {"file_id": stored["id"], "dataset": "terms"})
        say(f"  job {job['id']}")
        ended = watch(client, job["id"], stop)
    if ended is None:
        if not stop.made:
            say(f"  not finished after {SAMPLE_LIMIT_S} s; follow it with: ./callboard watch {job['id']}")
        return False
    if ended["state"] != "completed":
        say(f"  {ended['state']}: {ended['error']['message'] if ended['error'] else 'no reason recorded'}")
        return False
    result = ended["result"]
    say("  " + "  ".join(f"{name} {result[name]}" for name in ("read", "inserted", "updated", "skipped", "rejected")))
    say()
    return True


def main() -> int:
    """Greet, show the sample once for each data folder, and stand by until stopped."""
    stop = StopRequest()
    settings = load_settings()
    if not wait_until_ready(settings.api_url, stop):
        if stop.made:
            return 0
        say(f"{settings.api_url}/readyz did not answer within {START_LIMIT_S} s; the lines above say why")
        return 1
    say_where(settings)
    marker = settings.data_dir / MARKER
    if not marker.exists():
        try:
            if import_sample(settings, stop):
                marker.touch()
        except (CallboardError, httpx.HTTPError, OSError) as error:
            # A failed greeting is no reason to stop what the user started.
            say(f"  the sample import did not work: {error}")
    # Honcho stops everything when one process ends, so this one stays.
    stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
