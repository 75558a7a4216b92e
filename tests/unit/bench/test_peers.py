from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from bench import contest
from bench.peer import OURS, PEERS, Peer
from bench.peers.runs import chunks

BULLMQ = Path(contest.__file__).parent / "peers" / "bullmq"


def test_ours_takes_part_in_whatever_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "_is_there", lambda _: True)
    assert [peer.name for peer in contest.choose(["huey"], Console())] == [OURS, "huey"]
    assert [peer.name for peer in contest.choose(None, Console())] == [peer.name for peer in PEERS]


def test_a_peer_that_is_not_installed_is_named_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "_is_there", lambda environment: "bullmq" not in str(environment))
    console = Console(record=True, width=200)
    assert [peer.name for peer in contest.choose(["bullmq"], console)] == [OURS]
    assert "going on without bullmq" in console.export_text()


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_is_described_in_the_documentation(peer: Peer) -> None:
    text = (Path(__file__).parents[3] / "docs" / "performance.md").read_text()
    row = re.search(rf"^\| {re.escape(peer.name)} \|.*$", text, re.MULTILINE)
    assert row is not None
    does = peer.promises
    assert [cell.strip().replace("`", "") for cell in row[0].strip("|").split("|")] == [
        peer.name,
        does.states,
        does.events,
        does.kept,
        does.delivery,
        does.settings,
    ]


def test_what_bullmq_needs_is_pinned_with_hashes_and_names_no_registry() -> None:
    lock = json.loads((BULLMQ / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages["node_modules/bullmq"]["version"] == lock["packages"][""]["dependencies"]["bullmq"]
    assert all("integrity" in package for package in packages.values())
    assert not any("resolved" in package for package in packages.values())


def test_bulk_calls_add_up() -> None:
    assert chunks(2_500) == [1_000, 1_000, 500]
