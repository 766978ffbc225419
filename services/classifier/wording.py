"""Pure: what is said to a database, in its own words, for as many rows as there are.

A statement costs much, a row in it little: a thousand of them travel with one. To SQLite they are
parameters in VALUES, which it reads in a tenth of the time of a JSON text; to PostgreSQL arrays.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

ROWS = 1024  # a statement, at most: SQLite compiles longer ones far slower
SHARDS = 16  # rows of `totals`, about as many as connections that write at once

Row = Sequence[Any]


class Saying(NamedTuple):
    """A text with words in it: `$rows` for rows, whose columns have these types of PostgreSQL.

    A column is `column1` and so on; all of it is NULL in a row that is none. `$1` and so on are
    single values, `$least` and `$greatest` functions, `$shard` a row of `totals`.
    """

    text: str
    values: int = 0
    types: Sequence[str] = ()


class Said(NamedTuple):
    """What a driver takes."""

    text: str
    values: tuple[Any, ...]


_LITE: Mapping[str, str] = {"$least": "min", "$greatest": "max", "$shard": "0", "$": "?"}
_SERVER: Mapping[str, str] = {
    "$least": "least",
    "$greatest": "greatest",
    "$shard": f"pg_backend_pid() % {SHARDS}",
}


def lite(saying: Saying, values: Sequence[Any], rows: Sequence[Row] = ()) -> Said:
    """Say it to SQLite. There may be ROWS rows."""
    # Each connection keeps the texts compiled, so there are few: rows of NULL fill them up.
    size = 1 << max(len(rows) - 1, 0).bit_length()
    missing = (None,) * (len(saying.types) * (size - len(rows)))
    return Said(_lite_text(saying, size), (*values, *chain.from_iterable(rows), *missing))


def server(saying: Saying, values: Sequence[Any], rows: Sequence[Row] = ()) -> Said:
    """Say it to PostgreSQL."""
    columns = map(list, zip(*rows, strict=True))
    return Said(_server_text(saying), (*values, *columns))


@lru_cache
def _lite_text(saying: Saying, size: int) -> str:
    row = f"({', '.join('?' * len(saying.types))})"
    rows = ", ".join([row] * size)
    # The number of the first is that of the next free one, whichever stands first in the text.
    rows = rows.replace("?", f"?{saying.values + 1}", 1)
    return _replaced(saying.text, {"$rows": f"(VALUES {rows}) AS given", **_LITE})


@lru_cache
def _server_text(saying: Saying) -> str:
    arrays = ", ".join(
        f"CAST(${place} AS {each}[])" for place, each in enumerate(saying.types, saying.values + 1)
    )
    names = ", ".join(f"column{place}" for place in range(1, len(saying.types) + 1))
    return _replaced(saying.text, {"$rows": f"unnest({arrays}) AS given({names})", **_SERVER})


def _replaced(text: str, words: Mapping[str, str]) -> str:
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text
