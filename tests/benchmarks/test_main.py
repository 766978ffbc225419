"""The command line."""

import pytest

from benchmarks.__main__ import main


@pytest.mark.parametrize("arguments", [["--count", "0"], ["--connections", "x"], ["nonsense"]])
def test_wrong_arguments_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is started, in a line that says what is wrong."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert "benchmarks: error: argument" in capsys.readouterr().err
