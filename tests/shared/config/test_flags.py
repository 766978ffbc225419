"""The command line, and its help about all settings."""

import pytest

from shared.config import flags
from shared.errors import ConfigError
from tests.shared.config.demo import GOOD, DemoSettings


def test_a_flag_gives_a_value_or_a_list_or_a_table() -> None:
    """Lists and tables are JSON, as in the environment."""
    layer, path = flags.read(
        DemoSettings,
        "demo",
        [
            *("--demo-port", "1", "--demo-least=-5", "--demo-loud", "false"),
            *("--demo-hosts", '["a", "b"]', '--demo-rates={"c": 1}', "--demo-mood=ill"),
            *("--demo-seal", "/some/seal", "--config", "x.toml"),
        ],
    )

    assert layer.values == {
        "demo_port": "1",
        "demo_least": "-5",
        "demo_loud": "false",
        "demo_hosts": ["a", "b"],
        "demo_rates": {"c": 1},
        "demo_mood": "ill",
        "demo_seal": "/some/seal",
    }
    assert layer.names["demo_port"] == "--demo-port"
    assert path == "x.toml"
    assert not layer.mistakes


@pytest.mark.parametrize(
    ("arguments", "mistakes"),
    [
        (["--demo-prt", "1"], ["--demo-prt: there is no such flag; perhaps --demo-port?"]),
        (["--demo-por=hunter2"], ["--demo-por: there is no such flag; perhaps --demo-port?"]),
        (["hunter2"], ["a word on the command line belongs to no flag"]),
        (["--demo-port"], ["--demo-port: needs a value"]),
        (
            ["--demo-port", "--demo-most"],
            ["--demo-port: needs a value", "--demo-most: needs a value"],
        ),
        (["--demo-hosts"], ["--demo-hosts: needs a value"]),
        (["--config"], ["--config: needs a value"]),
    ],
)
def test_an_unknown_flag_is_reported_with_the_nearest(
    arguments: list[str], mistakes: list[str]
) -> None:
    """All unknown flags are reported at once, without values, which may be secrets."""
    layer, path = flags.read(DemoSettings, "demo", arguments)

    assert list(layer.mistakes) == mistakes
    assert not layer.values
    assert path is None


@pytest.mark.parametrize("arguments", [["--demo-key", "hunter2"], ["--demo-key=hunter2"]])
def test_a_secret_has_no_flag(arguments: list[str]) -> None:
    """A secret on a command line is refused, since every user of the machine can read it."""
    layer, _ = flags.read(DemoSettings, "demo", arguments)

    (mistake,) = layer.mistakes
    assert mistake == (
        "--demo-key: command lines can be read by others; set DEMO_KEY or DEMO_KEY_FILE,"
        " and take a new secret"
    )
    assert not layer.values


@pytest.mark.parametrize("text", ["[", "a=b", "{1}"])
def test_a_table_that_is_no_json_is_a_mistake(text: str) -> None:
    """A text that is no JSON is reported with the other mistakes, not by a traceback."""
    with pytest.raises(ConfigError, match=r"^--demo-rates: must be a JSON object$"):
        DemoSettings.load(GOOD, ["--demo-rates", text])


def test_help_tells_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """The help shows type, default, meaning and variable of a setting; a secret has no flag."""
    with pytest.raises(SystemExit) as caught:
        flags.read(DemoSettings, "demo", ["--help"])

    printed = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    for text in (
        "--demo-port int Where it listens (default: 8080) [DEMO_PORT]",
        "--demo-mood {so-so,ill} How it is (default: so-so) [DEMO_MOOD]",
        "--demo-loud bool Whether it is heard (default: true) [DEMO_LOUD]",
        "--demo-seal str The path of a seal [DEMO_SEAL]",
        "100% of each [DEMO_RATES]",
        "--log-level {DEBUG,INFO,WARNING,ERROR} What is less is not logged (default: INFO)",
        "DEMO_KEY Opens the demo (required)",
    ):
        assert text in printed
    assert "--demo-key" not in printed


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the version."""
    with pytest.raises(SystemExit) as caught:
        flags.read(DemoSettings, "demo", ["--version"])

    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("Postrider 0.")
