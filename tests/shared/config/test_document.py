"""The layer of the file: sections, what stands beside them, and words that are none."""

import json
from pathlib import Path

import pytest

from shared.config import document
from shared.config.layer import Layer
from tests.shared.config.demo import DemoSettings

TREE = {
    "log_level": "DEBUG",
    "drain_seconds": 1,
    "demo": {"port": 1, "hosts": ["a"], "rates": {"a.example": 2.5}, "drain_seconds": 2},
    "sender": {"anything": {"goes": 1}},
}
TOML = """
log_level = "DEBUG"
drain_seconds = 1

[demo]
port = 1
hosts = ["a"]
drain_seconds = 2

[demo.rates]
"a.example" = 2.5

[sender.anything]
goes = 1
"""


def read(path: Path, text: str) -> Layer:
    """Read a file with that text."""
    path.write_text(text)
    return document.read(DemoSettings, "demo", path)


@pytest.mark.parametrize(("name", "text"), [("x.toml", TOML), ("x.json", json.dumps(TREE))])
def test_a_section_says_what_is_a_services_own(tmp_path: Path, name: str, text: str) -> None:
    """A file serves all: the shared words stand at its top, a section has the last word."""
    layer = read(tmp_path / name, text)

    assert layer.values == {
        "log_level": "DEBUG",
        "drain_seconds": 2,
        "demo_port": 1,
        "demo_hosts": ["a"],
        "demo_rates": {"a.example": 2.5},
    }
    assert layer.names["demo_port"] == f"{tmp_path / name}: demo.port"
    assert layer.names["log_level"] == f"{tmp_path / name}: log_level"
    assert not layer.mistakes


def test_a_secret_of_other_services_is_no_mistake(tmp_path: Path) -> None:
    """One file serves services that need it and services that do not."""
    assert read(tmp_path / "x.toml", "sealing_key = 'x'") == Layer()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("log_lvl = 1", "log_lvl: there is no such setting; perhaps log_level?"),
        ("LOG_LEVEL = 1", "LOG_LEVEL: there is no such setting; perhaps log_level?"),
        ("demo_port = 1", "demo_port: there is no such setting; perhaps demo.port?"),
        ("[sendr]", "sendr: there is no such setting; perhaps the section sender?"),
        ("xyz = 'hunter2'", "xyz: there is no such setting"),
        ("[demo]\nprt = 1", "demo.prt: there is no such setting; perhaps port?"),
        ("[demo]\ndemo_port = 1", "demo.demo_port: there is no such setting; perhaps port?"),
        ("[demo]\nsealing_key = 1", "demo.sealing_key: there is no such setting"),
        ("demo = 1", "demo: must be a section"),
    ],
)
def test_a_word_that_is_none_is_told_with_the_nearest(tmp_path: Path, text: str, told: str) -> None:
    """A misspelt setting must not be a setting that silently has its default."""
    assert read(tmp_path / "x.toml", text).mistakes == (f"{tmp_path / 'x.toml'}: {told}",)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("x.toml", "a = ", "cannot be read: Invalid value"),
        ("x.json", "{", "cannot be read: Expecting property name"),
        ("x.json", "1", "cannot be read: "),
        ("x.yaml", "", "its name must end in .toml or .json"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_mistake(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    """It is told by its name, with the place where that is known."""
    (mistake,) = read(tmp_path / name, text).mistakes

    assert mistake.startswith(f"{tmp_path / name}: {told}")


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    """Who names a file means what is in it; a directory holds nothing either."""
    (missing,) = document.read(DemoSettings, "demo", tmp_path / "x.toml").mistakes
    (tmp_path / "y.toml").mkdir()
    (directory,) = document.read(DemoSettings, "demo", tmp_path / "y.toml").mistakes

    assert missing == f"{tmp_path / 'x.toml'}: cannot be read: No such file or directory"
    assert directory == f"{tmp_path / 'y.toml'}: cannot be read: Is a directory"


def test_a_file_with_secrets_is_for_its_owner_alone(tmp_path: Path) -> None:
    """A file that others can read is refused if it holds secrets, which the mistake names."""
    path = tmp_path / "x.toml"
    path.touch(mode=0o640)

    layer = read(path, "[demo]\nport = 1\nkey = 'k'")

    assert layer.mistakes == (
        f"{path}: others can read {path} (mode 0640): chmod 600 {path}, since it holds demo.key",
    )
    assert not read(path, "[demo]\nport = 1").mistakes
    path.chmod(0o600)
    assert not read(path, "[demo]\nkey = 'k'").mistakes
