"""Settings: all mistakes at once, without values, and nothing read but the three sources."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.errors import ConfigError
from tests.shared.config.demo import GOOD, SECRET, DemoSettings, Mood


def test_a_missing_setting_has_its_default() -> None:
    """A setting without a value has its default."""
    settings = DemoSettings.load(GOOD)

    assert settings.amqp_url == GOOD["AMQP_URL"]
    assert settings.database_url is None
    assert (settings.data_dir, settings.log_level) == (Path("data"), "INFO")
    assert (settings.demo_key, settings.demo_port) == (SECRET, 8080)


def test_variables_are_read_by_their_names() -> None:
    """A field is set by the variable of its name in capitals; lists are JSON."""
    more = {"DEMO_PORT": "25", "DEMO_HOSTS": '["a", "b"]', "DATA_DIR": "/srv", "UNKNOWN": "x"}

    settings = DemoSettings.load(GOOD | more)

    assert settings.demo_port == 25
    assert settings.demo_hosts == ("a", "b")
    assert settings.data_dir == Path("/srv")


def test_an_empty_variable_is_not_set() -> None:
    """A compose file that passes an unset variable on passes an empty one."""
    settings = DemoSettings.load(GOOD | {"DATABASE_URL": "", "DEMO_PORT": ""})

    assert settings.database_url is None
    assert settings.demo_port == 8080


def test_nothing_else_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the process's environment nor a .env file is read."""
    (tmp_path / ".env").write_text("DEMO_PORT=1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEMO_PORT", "2")

    assert DemoSettings.load(GOOD).demo_port == 8080


def test_all_mistakes_are_reported_at_once() -> None:
    """Each mistake is a line with the name of the variable and without the value."""
    with pytest.raises(ConfigError) as caught:
        DemoSettings.load({"DEMO_KEY": "short", "DEMO_PORT": "hunter2", "LOG_LEVEL": "LOUD"})

    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "AMQP_URL",
        "LOG_LEVEL",
        "DEMO_KEY",
        "DEMO_PORT",
    ]
    assert not any(value in str(caught.value) for value in ("short", "hunter2", "LOUD"))


@pytest.mark.parametrize("value", ["a,b", "[", '{"a": 1}', "[1]"])
def test_a_list_that_is_none_is_a_mistake(value: str) -> None:
    """A text that is no JSON is reported like other mistakes, not by a traceback."""
    with pytest.raises(ConfigError, match=r"(?i)demo_hosts"):
        DemoSettings.load(GOOD | {"DEMO_HOSTS": value})


def test_settings_that_contradict_each_other_are_a_mistake() -> None:
    """A rule over several variables is reported in its own words."""
    with pytest.raises(ConfigError, match=r"^together: DEMO_LEAST must not be over DEMO_MOST$"):
        DemoSettings.load(GOOD | {"DEMO_LEAST": "5", "DEMO_MOST": "2"})


def test_mistakes_between_settings_are_reported_with_the_rest(tmp_path: Path) -> None:
    """A contradiction is reported beside other mistakes, with the place of each part."""
    path = file(tmp_path, "[demo]\nmost = 2\n")

    with pytest.raises(ConfigError) as caught:
        DemoSettings.load(
            {"CONFIG_FILE": path, "DEMO_LEAST": "5", "DEMO_PORT": "x", "DEMO_LOUD": "3"}
        )

    assert str(caught.value).splitlines()[2:] == [
        "DEMO_PORT: must be a whole number",
        "DEMO_LOUD: must be true or false",
        f"together: DEMO_LEAST must not be over {path}: demo.most",
    ]


def test_a_contradiction_with_a_mistake_is_not_guessed() -> None:
    """A contradiction with a wrong value is not reported."""
    with pytest.raises(ConfigError) as caught:
        DemoSettings.load(GOOD | {"DEMO_LEAST": "5", "DEMO_MOST": "-2"})

    assert str(caught.value) == "DEMO_MOST: must be at least 1"


def test_a_secret_in_an_unusable_file_is_not_called_missing(tmp_path: Path) -> None:
    """The mistake is in the file; a second line would send the reader to the wrong place."""
    with pytest.raises(ConfigError) as caught:
        DemoSettings.load({"AMQP_URL": GOOD["AMQP_URL"], "DEMO_KEY_FILE": f"{tmp_path}/none"})

    assert str(caught.value) == "DEMO_KEY_FILE: No such file or directory"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AMQP_URL", "foo"),
        ("AMQP_URL", "http://localhost/"),
        ("DATABASE_URL", "sqlite:///x"),
        ("DEMO_PORT", "-1"),
        ("DEMO_PORT", "65536"),
        ("DEMO_KEY", "x" * 31),
        ("DRAIN_SECONDS", "0"),
        ("DRAIN_SECONDS", "soon"),
        ("HEALTH_PORT", "http"),
    ],
)
def test_limits_are_kept(variable: str, value: str) -> None:
    """A value that cannot work is refused at the start, not at its first use."""
    with pytest.raises(ConfigError, match=variable):
        DemoSettings.load(GOOD | {variable: value})


def test_no_secret_is_in_the_text_of_the_settings() -> None:
    """Settings in a log or a traceback show no key, no password and no URL that holds one."""
    text = repr(DemoSettings.load(GOOD | {"DATABASE_URL": "postgresql+asyncpg://u:pw0rd@db/x"}))

    assert not any(secret in text for secret in (SECRET, "hunter2", "pw0rd"))


def test_settings_are_frozen() -> None:
    """Settings cannot be changed after the check."""
    settings = DemoSettings.load(GOOD)

    with pytest.raises(ValidationError, match="frozen"):
        settings.demo_port = 1  # type: ignore[misc] # it is what the test is about


def file(directory: Path, text: str) -> str:
    """Write a TOML file and return its path."""
    path = directory / "some.toml"
    path.write_text(text)
    return str(path)


def test_each_layer_goes_over_the_one_below(tmp_path: Path) -> None:
    """Flags override the environment, which overrides the file, which overrides the defaults."""
    path = file(tmp_path, "[demo]\nleast = 2\nport = 2\nmost = 2\n")
    environ = GOOD | {"CONFIG_FILE": path, "DEMO_PORT": "3", "DEMO_MOST": "3"}

    settings = DemoSettings.load(environ, ["--demo-most", "4"])

    assert (settings.drain_seconds, settings.demo_least) == (25.0, 2)
    assert (settings.demo_port, settings.demo_most) == (3, 4)


def test_the_flag_names_another_file_than_the_environment(tmp_path: Path) -> None:
    """--config overrides CONFIG_FILE."""
    path = file(tmp_path, "[demo]\nport = 2\n")

    settings = DemoSettings.load(GOOD | {"CONFIG_FILE": "/nowhere.toml"}, [f"--config={path}"])

    assert settings.demo_port == 2


def test_mistakes_of_all_layers_are_reported_with_their_place(tmp_path: Path) -> None:
    """The mistakes of all sources are reported at once, each with its place."""
    path = file(tmp_path, 'log_level = "LOUD"\n[demo]\nports = 1\nmost = 0\n')

    with pytest.raises(ConfigError) as caught:
        DemoSettings.load(
            {"CONFIG_FILE": path, "DEMO_PORT": "x", "DEMO_HOSTS": "a"},
            ["--demo-least", "none", "--demo-mots=3"],
        )

    assert [line.partition(": ")[::2] for line in str(caught.value).splitlines()] == [
        (path, "demo.ports: there is no such setting; perhaps port?"),
        ("--demo-mots", "there is no such flag; perhaps --demo-most?"),
        ("AMQP_URL", "is required: amqp://user:password@host/vhost of RabbitMQ"),
        (path, "log_level: must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("DEMO_KEY", "is required: Opens the demo"),
        ("DEMO_PORT", "must be a whole number"),
        ("DEMO_HOSTS", "must be a list as JSON"),
        ("--demo-least", "must be a whole number"),
        (path, "demo.most: must be at least 1"),
    ]


def test_a_mistake_that_a_higher_layer_hides_is_reported(tmp_path: Path) -> None:
    """A mistake in an overridden value is reported too, since it would stop a later start."""
    path = file(tmp_path, "[demo]\nport = 70000\n")

    with pytest.raises(ConfigError, match=r"^.+some\.toml: demo\.port: .+65535$"):
        DemoSettings.load(GOOD | {"CONFIG_FILE": path, "DEMO_PORT": "1"}, ["--demo-port=2"])


def test_a_place_inside_a_value_is_reported(tmp_path: Path) -> None:
    """A mistake in a list names the entry."""
    path = file(tmp_path, "[demo]\nhosts = ['a', 2]\n")

    with pytest.raises(ConfigError, match=r"some\.toml: demo\.hosts\.1: must be a string$"):
        DemoSettings.load(GOOD | {"CONFIG_FILE": path})


def test_a_layer_says_the_same_of_every_kind_of_setting(tmp_path: Path) -> None:
    """A value means the same in the file, the environment and a flag."""
    (tmp_path / "seal").write_text("a seal")
    words = {"mood": "ill", "loud": False, "rates": {"a": 1.5}, "seal": f"{tmp_path}/seal"}
    (tmp_path / "x.json").write_text(json.dumps({"demo": words}))
    texts = {
        name: text if isinstance(text, str) else json.dumps(text) for name, text in words.items()
    }

    for settings in (
        DemoSettings.load(GOOD, ["--config", f"{tmp_path}/x.json"]),
        DemoSettings.load(GOOD | {f"DEMO_{name.upper()}": text for name, text in texts.items()}),
        DemoSettings.load(GOOD, [f"--demo-{name}={text}" for name, text in texts.items()]),
    ):
        assert (settings.demo_mood, settings.demo_loud) == (Mood.ILL, False)
        assert settings.demo_rates == {"a": 1.5}
        assert settings.demo_seal is not None
        assert settings.demo_seal.text == "a seal"
