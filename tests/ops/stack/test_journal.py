"""Logs are never lost for want of a terminal."""

import io
from pathlib import Path

from ops.stack.journal import Journal


class _Closed(io.StringIO):
    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_terminal_that_goes_away_costs_nothing_but_itself(tmp_path: Path) -> None:
    """After a closed window the files go on."""
    journal = Journal(tmp_path, _Closed())
    journal.write("sender", "one")
    journal.write("sender", "two")
    journal.close()

    assert (tmp_path / "sender.log").read_text() == "one\ntwo\n"
    assert journal.tail("sender") == "  one\n  two"
