"""Formats of numbers and times, and the libraries of the pages."""

import hashlib
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.console.rendering import (
    FOLDER,
    PageRenderer,
    counted,
    duration,
    latency,
    moment,
    number,
)

VENDOR = FOLDER / "static/vendor"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86_400, "1 d"),
        (100_000, "1 d 3 h"),
    ],
)
def test_a_time_span_has_its_two_largest_units(seconds: float, text: str) -> None:
    """A person sees at once whether it is seconds or days."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-0.1, "0 ms"),
        (0.0004, "0 ms"),
        (0.34, "340 ms"),
        (0.9996, "1 s"),
        (2.5, "2.5 s"),
        (75, "1 min 15 s"),
    ],
)
def test_a_short_time_span_is_exact(seconds: float, text: str) -> None:
    """A mail that took a third of a second did not take 0 s."""
    assert latency(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1234567, "1\u202f234\u202f567"), (0.5, "0.50"), (2.0, "2")]
)
def test_a_number_has_spaces_between_thousands(value: float, text: str) -> None:
    """A large number can be read."""
    assert number(value) == text


def test_one_thing_is_not_called_many() -> None:
    """The words fit the number."""
    assert [counted(each, "mail", "mails") for each in (0, 1, 2)] == [
        "0 mails",
        "1 mail",
        "2 mails",
    ]


def test_a_time_is_in_utc_wherever_it_came_from() -> None:
    """Times of services with other zones can be compared."""
    east = datetime(2026, 11, 1, 10, 30, tzinfo=timezone(timedelta(hours=2)))

    assert moment(east) == moment(east.astimezone(UTC))
    assert ">2026-11-01 08:30:00<" in moment(east)
    assert "unknown" in moment(None)


def test_the_libraries_are_those_that_are_named() -> None:
    """The files are those of their versions, with the licences beside them."""
    described = (VENDOR / "README.md").read_text()
    sums = dict(re.findall(r"\| `(\S+)` \| `(\w{64})` \|", described))

    assert len(sums) == 3
    for name, expected in sums.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == expected
    [version] = re.findall(r"uPlot (\d\S+)$", described, re.MULTILINE)
    assert f"(v{version})" in (VENDOR / "uPlot.iife.min.js").read_text()
    assert "Zero-Clause BSD" in (VENDOR / "LICENSE-htmx").read_text()
    assert "Leon Sorokin" in (VENDOR / "LICENSE-uPlot").read_text()


def test_nothing_of_the_page_leads_elsewhere() -> None:
    """No template, style or script of ours names another host or has anything inline."""
    own = [*(FOLDER / "templates").iterdir(), *(FOLDER / "static").glob("*.*")]
    for path in own:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path
        assert not re.search(r"<style|<script(?! src)|\son\w+=|\sstyle=|\bhx-on", text), path


def test_a_slash_of_an_id_does_not_end_a_part_of_a_path() -> None:
    """Ids of dead letters are of any form: each is one part of the path of its page."""
    environment = PageRenderer.of(lambda: datetime.now(UTC)).environment

    assert environment.from_string("{{ id|urlencode }}").render(id="a/b?ü") == "a%2Fb%3F%C3%BC"
