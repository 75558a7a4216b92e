"""Figures as tables for people."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table

from bench import queues
from bench.contest import Outcome
from bench.figures import Row, less_is_better, ratio
from bench.peer import PEERS

#: figure -> its column, in this order
COLUMNS = {
    "jobs_per_s": "jobs/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "worker_cpu_us_per_job": "worker CPU µs/job",
    "server_cpu_us_per_job": "server CPU µs/job",
    "bytes_per_job": "bytes/job",
}


def promises_table(outcome: Outcome) -> Table:
    """What each peer does for a job, which its figures are to be read beside."""
    table = Table(title="What each peer does for a job as measured here", show_lines=True)
    for column in ("peer", "version", "states", "events", "finished jobs kept", "acknowledged", "set-up"):
        table.add_column(column)
    for peer in PEERS:
        if peer.name in outcome.versions:
            does = peer.promises
            row = (does.states, does.events, does.kept, does.delivery, does.settings)
            table.add_row(peer.name, outcome.versions[peer.name], *row)
    return table


def measurement_tables(outcome: Outcome) -> list[Table]:
    """One table a measurement, ratios first."""
    return [_measurement_table(name, rows) for name, rows in outcome.measurements.items() if rows]


def _measurement_table(name: str, rows: list[Row]) -> Table:
    figures = [figure for figure in COLUMNS if any(figure in row.figures for row in rows)]
    table = Table(title=f"{name}; ratio to the best of Callboard, above 1: Callboard is better")
    table.add_column("peer")
    table.add_column("set-up")
    for figure in figures:
        table.add_column("ratio", justify="right")
        table.add_column(COLUMNS[figure], justify="right")
    for row in sort_rows(rows, figures[0]):
        cells: list[str] = []
        for figure in figures:
            cells += (number(row.ratios.get(figure, math.nan)), number(row.figures.get(figure, math.nan)))
        table.add_row(row.peer, row.setup, *cells)
    return table


def sort_rows(rows: list[Row], figure: str) -> list[Row]:
    """Put the best first, and last what was not measured."""
    sign = 1 if less_is_better(figure) else -1
    return sorted(rows, key=lambda row: sign * row.figures[figure] if figure in row.figures else math.inf)


def number(value: float) -> str:
    """Give three significant digits, or all of a whole number."""
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def queues_table(figures: dict[str, Any]) -> Table:
    """Callboard and stock Dramatiq by threads."""
    table = Table(title="Callboard and stock Dramatiq, one server, one run; ratio > 1: Callboard is better")
    table.add_column("measurement")
    table.add_column("figure")
    for column in ("ratio", "callboard", "dramatiq"):
        table.add_column(column, justify="right")
    for name, figure, ours, theirs in queues.rows(figures):
        table.add_row(name, figure, f"{ratio(figure, ours, theirs):.2f}", f"{ours:,.2f}", f"{theirs:,.2f}")
    return table
