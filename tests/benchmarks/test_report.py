"""The tables: medians, ratios."""

import pytest

from benchmarks import report
from benchmarks.report import Series


def test_one_disturbed_repetition_does_not_move_the_rate() -> None:
    """The rate of a series is its median."""
    assert Series("x", [100, 3, 102]).rate == 100


def test_ratios_are_to_the_last_line() -> None:
    """The baseline comes last and has the ratio 1."""
    lines = report.table("mails/s", [Series("ours", [1500, 500]), Series("bare", [4000])])

    assert [line.split() for line in lines.splitlines()] == [
        ["mails/s", "ratio", "lowest", "highest"],
        ["ours", "1,000", "0.25", "500", "1,500"],
        ["bare", "4,000", "1.00", "4,000", "4,000"],
    ]


def test_megabytes_are_of_mails() -> None:
    """With the size of a mail the table has the megabytes a second."""
    head, line = report.table("mails/s", [Series("ours", [350])], 100_000).splitlines()

    assert head.split() == ["mails/s", "MB/s", "ratio", "lowest", "highest"]
    assert line.split() == ["ours", "350", "35.0", "1.00", "350", "350"]


def test_latencies_are_in_milliseconds() -> None:
    """Where requests were timed, the table has the median and the 99th percentile."""
    timed = Series("post", [10], [0.001, 0.0025, 0.1])

    head, line = report.table("requests/s", [timed]).splitlines()

    assert head.endswith("p50 ms  p99 ms")
    assert line.split()[-2:] == ["2.5", "100.0"]


def test_the_share_of_smtp_is_by_medians() -> None:
    """Seconds in, milliseconds out."""
    text = report.split([0.012, 0.010, 0.9], [0.004, 0.004, 0.5])

    assert text == "  of 12.0 ms from delivery to acknowledgement 4.0 ms were SMTP"


@pytest.mark.parametrize(("ours", "verdict"), [(299.0, "missed"), (300.0, "reached")])
def test_a_wanted_ratio_is_reached_or_missed(ours: float, verdict: str) -> None:
    """Three times is three times, however it is rounded to be read."""
    text = report.times(Series("ours", [ours]), Series("theirs", [100]), 3)

    assert text == f"  3.0 times theirs; wanted are 3: {verdict}"


@pytest.mark.parametrize(("most", "verdict"), [(119_999_999, "reached"), (120_000_000, "missed")])
def test_the_most_memory_counts(most: int, verdict: str) -> None:
    """One repetition that needs too much is enough."""
    text = report.most_memory([90_000_000, most, 80_000_000], 120_000_000)

    assert text == f"  120 MB of memory at most; wanted are less than 120: {verdict}"


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ([7_000_000], "7 7 7 7 7 7 7 7 7 7 7"),
        ([number * 1_000_000 for number in range(101)], "0 10 20 30 40 50 60 70 80 90 100"),
    ],
)
def test_a_course_goes_from_the_first_to_the_last(samples: list[int], told: str) -> None:
    """Many samples are told in ten steps, and one is enough."""
    assert report.course(samples) == f"  {told} MB"


@pytest.mark.parametrize(
    ("rate", "slowest", "verdict"),
    [(2500, 0.0499, "reached"), (2499, 0.0499, "missed"), (2500, 0.05, "missed")],
)
def test_a_rate_and_its_latency_count_together(rate: float, slowest: float, verdict: str) -> None:
    """A rate is reached only together with its latency."""
    series = Series("codes", [rate], [slowest] * 100)

    assert report.fast(series, 2500, 0.05).endswith(f"less than 50 ms: {verdict}")
    assert report.soon(series, 0.05).endswith(
        "missed" if slowest == 0.05 else "less than 50.0 ms: reached"
    )


def test_a_rate_that_is_wanted() -> None:
    """The median decides."""
    series = Series("ours", [90.0, 100.0, 5000.0])

    assert report.at_least(series, 100).endswith(report.REACHED)
    assert report.at_least(series, 101).endswith(report.MISSED)


def test_no_slower_than_is_allowed() -> None:
    """A share of the other's rate may be missing; to be faster is allowed."""
    ours, rival = Series("many", [86.0]), Series("few", [100.0])

    assert "14% slower than with few" in report.no_slower(ours, rival, 0.15)
    assert report.no_slower(ours, rival, 0.15).endswith(report.REACHED)
    assert report.no_slower(ours, rival, 0.13).endswith(report.MISSED)
    assert report.no_slower(rival, ours, 0).endswith(report.REACHED)
