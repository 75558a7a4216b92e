"""A queue with limits on a server of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.limits.site import Site
from tests.servers import ValkeyServer


@pytest.fixture
def site(server: ValkeyServer, tmp_path: Path) -> Iterator[Site]:
    made = Site(server, tmp_path)
    yield made
    made.close()
