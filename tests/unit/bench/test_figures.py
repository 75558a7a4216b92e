from __future__ import annotations

import math

import pytest

from bench.figures import Row, Samples, best, percentile, ratio
from bench.report import number, sort_rows


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        (range(1, 101), 0.5, 50),
        (range(1, 101), 0.99, 99),
        (range(1, 251), 0.99, 248),
        ([3, 1, 2], 0.5, 2),
        ([7], 0.99, 7),
        ([1, 2], 1.0, 2),
    ],
)
def test_percentile_is_a_value_that_was_measured(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def test_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("figure", "ours", "theirs", "expected"),
    [("jobs_per_s", 300, 100, 3), ("p50_ms", 2, 8, 4), ("bytes_per_job", 800, 400, 0.5)],
)
def test_ratio_above_one_means_that_ours_is_better(figure: str, ours: float, theirs: float, expected: float) -> None:
    assert ratio(figure, ours, theirs) == expected


def test_ratio_to_what_was_not_measured_is_not_a_number() -> None:
    assert math.isnan(ratio("p50_ms", 0, 3))


@pytest.fixture
def samples() -> Samples:
    samples = Samples()
    for speed in (100, 900, 200):
        samples.add("drain", "ours", "8 threads", {"jobs_per_s": speed, "server_cpu_us_per_job": 50})
    samples.add("drain", "ours", "16 threads", {"jobs_per_s": 150, "server_cpu_us_per_job": 40})
    samples.add("drain", "other", "solo", {"jobs_per_s": 400, "server_cpu_us_per_job": 80})
    return samples


def test_rows_are_medians_beside_the_best_of_ours_in_each_figure(samples: Samples) -> None:
    rows = {(row.peer, row.setup): row for row in samples.rows("drain", "ours")}
    assert rows["ours", "8 threads"].figures["jobs_per_s"] == 200
    assert rows["ours", "8 threads"].ratios == {}
    assert rows["other", "solo"].ratios == {"jobs_per_s": 0.5, "server_cpu_us_per_job": 2.0}


def test_best_setup_is_by_median(samples: Samples) -> None:
    assert samples.best_setup("drain", "ours", "jobs_per_s") == "8 threads"
    assert samples.best_setup("drain", "ours", "server_cpu_us_per_job") == "16 threads"
    assert samples.best_setup("drain", "absent", "jobs_per_s") is None


def test_rows_without_ours_have_no_ratio() -> None:
    samples = Samples()
    samples.add("drain", "other", "solo", {"jobs_per_s": 400})
    assert [row.ratios for row in samples.rows("drain", "ours")] == [{}]
    assert best([], "jobs_per_s") is None


def test_rows_are_sorted_best_first_and_unmeasured_last() -> None:
    rows = [Row("a", "", {"p50_ms": 3}), Row("b", "", {}), Row("c", "", {"p50_ms": 1})]
    assert [row.peer for row in sort_rows(rows, "p50_ms")] == ["c", "a", "b"]
    rows = [Row("a", "", {"jobs_per_s": 3}), Row("b", "", {}), Row("c", "", {"jobs_per_s": 5})]
    assert [row.peer for row in sort_rows(rows, "jobs_per_s")] == ["c", "a", "b"]


@pytest.mark.parametrize(("value", "text"), [(12345.6, "12,346"), (1.2345, "1.23"), (99.94, "99.9"), (math.nan, "")])
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text
