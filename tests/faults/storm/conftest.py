"""Prints the storm's table after everything else."""

from __future__ import annotations

import pytest

from tests.faults.storm.report import Report

REPORT: pytest.StashKey[Report] = pytest.StashKey()


@pytest.fixture
def keep_report(request: pytest.FixtureRequest):
    """Hand a report over for the summary."""
    return lambda report: request.config.stash.__setitem__(REPORT, report)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report = config.stash.get(REPORT, None)
    if report is not None:
        terminalreporter.section(f"storm, seed {report.seed}")
        for line in report.lines():
            terminalreporter.write_line(line)
