"""The layer of the environment: the variables, and the files that hold secrets."""

from pathlib import Path

import pytest

from shared.config import environment
from tests.shared.config.demo import SECRET, DemoSettings


def test_a_variable_gives_a_value_or_a_list_or_a_table() -> None:
    """What has parts is JSON; what is empty or another program's is not ours."""
    layer = environment.read(
        DemoSettings,
        {
            "DEMO_PORT": "1",
            "DEMO_HOSTS": '["a"]',
            "DEMO_RATES": '{"b": 2}',
            "DEMO_MOOD": "",
            "X": "y",
        },
    )

    assert layer.values == {"demo_port": "1", "demo_hosts": ["a"], "demo_rates": {"b": 2}}
    assert layer.names["demo_port"] == "DEMO_PORT"
    assert not layer.mistakes


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    """An orchestrator mounts a secret as a file, whose last line most editors end."""
    (tmp_path / "key").write_text(f"{SECRET}\n")

    layer = environment.read(DemoSettings, {"DEMO_KEY_FILE": str(tmp_path / "key")})

    assert layer.values == {"demo_key": SECRET}
    assert layer.names["demo_key"] == "DEMO_KEY_FILE"


def test_only_a_secret_lies_in_a_file(tmp_path: Path) -> None:
    """A variable of that form may be a setting's own name, or another program's."""
    (tmp_path / "port").write_text("1")

    assert not environment.read(DemoSettings, {"DEMO_PORT_FILE": str(tmp_path / "port")}).values


def test_a_secret_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    """It is told with the others; so is a secret that is given twice, and neither is shown."""
    missing = environment.read(DemoSettings, {"DEMO_KEY_FILE": str(tmp_path / "none")})
    (tmp_path / "key").write_text(SECRET)
    twice = environment.read(
        DemoSettings, {"DEMO_KEY": "hunter2", "DEMO_KEY_FILE": str(tmp_path / "key")}
    )

    assert missing.mistakes == ("DEMO_KEY_FILE: No such file or directory",)
    assert twice.mistakes == (
        "DEMO_KEY_FILE: DEMO_KEY is set as well, and which one counts is not to be seen",
    )


@pytest.mark.parametrize("octets", [b"\xff", b"\xc3("])
def test_a_secret_that_is_no_text_is_a_mistake(tmp_path: Path, octets: bytes) -> None:
    """A key in a binary form is told by the variable that names its file."""
    (tmp_path / "key").write_bytes(octets)

    layer = environment.read(DemoSettings, {"DEMO_KEY_FILE": str(tmp_path / "key")})

    assert [line.partition(":")[0] for line in layer.mistakes] == ["DEMO_KEY_FILE"]
