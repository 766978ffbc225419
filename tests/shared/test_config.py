"""Settings: all mistakes at once, no values told, nothing read but what is given."""

from pathlib import Path
from typing import ClassVar, Self

import pytest
from pydantic import Field, ValidationError, model_validator

from shared.config import Port, Secret, Settings
from shared.errors import ConfigError

SECRET = "s3cr3t" * 6
GOOD = {"AMQP_URL": "amqp://user:hunter2@host/", "DEMO_KEY": SECRET}


class DemoSettings(Settings):
    """The settings of a service that has one of everything."""

    service: ClassVar[str] = "demo"

    demo_key: Secret
    demo_port: Port = 8080
    demo_hosts: tuple[str, ...] = ()
    demo_least: int = Field(1, ge=1)
    demo_most: int = Field(9, ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.demo_least > self.demo_most:
            raise ValueError("DEMO_LEAST must not be over DEMO_MOST")
        return self


def test_what_is_not_said_has_its_default() -> None:
    """A service needs to be told only what nobody can guess."""
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
    """Neither the process's environment nor a .env file slips in."""
    (tmp_path / ".env").write_text("DEMO_PORT=1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEMO_PORT", "2")

    assert DemoSettings.load(GOOD).demo_port == 8080


def test_all_mistakes_are_told_at_once() -> None:
    """A line each, by the name of the variable, without any value."""
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
    """What is not JSON is told as the others are, not by a traceback."""
    with pytest.raises(ConfigError, match=r"(?i)demo_hosts"):
        DemoSettings.load(GOOD | {"DEMO_HOSTS": value})


def test_settings_that_contradict_each_other_are_a_mistake() -> None:
    """A rule over several variables is told in its own words."""
    with pytest.raises(ConfigError, match=r"^together: DEMO_LEAST must not be over DEMO_MOST$"):
        DemoSettings.load(GOOD | {"DEMO_LEAST": "5", "DEMO_MOST": "2"})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
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
    """What was checked stays as it was checked."""
    settings = DemoSettings.load(GOOD)

    with pytest.raises(ValidationError, match="frozen"):
        settings.demo_port = 1  # type: ignore[misc] # it is what the test is about
