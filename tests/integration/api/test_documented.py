"""docs/api.md: names every call, and its lines work as typed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.integration.api.conftest import KEY
from tests.integration.api.server import ROOT, ApiServer

TEXT = (ROOT / "docs" / "api.md").read_text()
HEADINGS = set(re.findall(r"^### `([A-Z]+) (\S+)`$", TEXT, re.MULTILINE))
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_every_call_has_its_section_and_every_section_its_call(client: FlaskClient) -> None:
    served = {
        (method, re.sub(r"<\w+>", "{}", rule.rule))
        for rule in client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(method, re.sub(r"{\w+}", "{}", path)) for method, path in HEADINGS} == served


def test_the_lines_work_as_typed(make_server: Callable[..., ApiServer], tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    server = make_server()
    first, *calls = BLOCKS
    assert first.startswith("API=http://127.0.0.1:8000\nKEY=")
    # Streams have no end here (no worker runs, and events never end), so curl's "time is over" is right for them.
    script = [
        "set -u",
        f"API={server.url}",
        f"KEY={KEY}",
        'curl() { command curl --fail-with-body --max-time 3 "$@"; }',
    ]
    for number, call in enumerate(calls):
        patience = "|| test $? = 28" if "curl -sSN" in call else ""
        script.append(f"{call.rstrip()} {patience}\necho; echo done {number}")
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", "\n".join(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr)
    assert f"done {len(calls) - 1}\n" in done.stdout
    assert "event: ready" in done.stdout
    assert '"resumed":false' in done.stdout
    assert "event: state" in done.stdout
    assert len(calls) >= len(HEADINGS)
