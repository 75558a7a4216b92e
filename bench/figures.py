"""Percentiles, medians and ratios: what becomes of the samples."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

#: parts of a figure's name that say that less of it is better
LESS_IS_BETTER = frozenset({"ms", "calls", "bytes", "cpu", "us"})


def percentile(values: Iterable[float], share: float) -> float:
    """Give the smallest value that at least ``share`` (above 0, up to 1) of them do not exceed.

    Raises:
        ValueError: when there are none.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values, no percentile")
    return ordered[math.ceil(len(ordered) * share) - 1]


def less_is_better(figure: str) -> bool:
    """Whether a smaller value of this figure is the better one."""
    return not LESS_IS_BETTER.isdisjoint(figure.split("_"))


def ratio(figure: str, ours: float, theirs: float) -> float:
    """How many times better ours is; NaN when one of them was not measured."""
    if not ours or not theirs:
        return math.nan
    return theirs / ours if less_is_better(figure) else ours / theirs


@dataclass
class Row:
    """What one peer did in one set-up, the median of the rounds."""

    peer: str
    #: the set-up, such as "8 threads"
    setup: str
    figures: dict[str, float]
    #: how many times better the best row of our own is, by figure
    ratios: dict[str, float] = field(default_factory=dict)


class Samples:
    """Figures as they come in, by measurement, peer and set-up."""

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[str, str], dict[str, list[float]]]] = defaultdict(dict)

    def add(self, measurement: str, peer: str, setup: str, figures: Mapping[str, float]) -> None:
        """Take in what one round gave."""
        values = self._values[measurement].setdefault((peer, setup), defaultdict(list))
        for figure, value in figures.items():
            values[figure].append(value)

    def rows(self, measurement: str, ours: str) -> list[Row]:
        """Give the medians, each beside the best of ours in the same figure."""
        rows = [
            Row(peer, setup, {figure: statistics.median(values) for figure, values in figures.items()})
            for (peer, setup), figures in self._values[measurement].items()
        ]
        for row in rows:
            for figure, value in row.figures.items():
                best_of_ours = best([other for other in rows if other.peer == ours], figure)
                if best_of_ours is not None and row.peer != ours:
                    row.ratios[figure] = ratio(figure, best_of_ours.figures[figure], value)
        return rows

    def best_setup(self, measurement: str, peer: str, figure: str) -> str | None:
        """Give the set-up in which a peer did best; None when it was not measured."""
        row = best([row for row in self.rows(measurement, peer) if row.peer == peer], figure)
        return None if row is None else row.setup


def best(rows: Sequence[Row], figure: str) -> Row | None:
    """Give the row that is best in a figure; None when no row has it."""
    having = [row for row in rows if figure in row.figures]
    if not having:
        return None
    choose = min if less_is_better(figure) else max
    return choose(having, key=lambda row: row.figures[figure])
