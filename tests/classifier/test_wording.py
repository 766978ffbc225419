"""What is said to SQLite and to PostgreSQL."""

import pytest

from services.classifier.wording import ROWS, Saying, lite, server

SAYING = Saying("INSERT INTO t SELECT column1, column2, $1 FROM $rows", 1, ("text", "bigint"))


def test_rows_are_parameters_of_sqlite() -> None:
    """After the single values, whichever stands first in the text."""
    said = lite(SAYING, (7,), [("a", 1)])

    assert said.text == "INSERT INTO t SELECT column1, column2, ?1 FROM (VALUES (?2, ?)) AS given"
    assert said.values == (7, "a", 1)


def test_rows_are_arrays_of_postgresql() -> None:
    """One for each column, of its type."""
    said = server(SAYING, (7,), [("a", 1), ("b", 2)])

    assert said.text == (
        "INSERT INTO t SELECT column1, column2, $1 FROM"
        " unnest(CAST($2 AS text[]), CAST($3 AS bigint[])) AS given(column1, column2)"
    )
    assert said.values == (7, ["a", "b"], [1, 2])


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (17, 32), (ROWS - 1, ROWS)])
def test_there_are_few_texts(count: int, size: int) -> None:
    """What SQLite keeps compiled serves any number of rows; those that are none are NULL."""
    said = lite(SAYING, (7,), [("a", 1)] * count)

    assert said.text.count("(?") == size
    assert said.values == (7, *("a", 1) * count, *(None, None) * (size - count))


def test_one_function_has_two_names() -> None:
    """The smaller of two is an aggregate's name in SQLite."""
    text = "SELECT $least(a, b), $greatest(a, b)"

    assert lite(Saying(text), ()).text == "SELECT min(a, b), max(a, b)"
    assert server(Saying(text), ()).text == "SELECT least(a, b), greatest(a, b)"
