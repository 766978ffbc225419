"""The help of all services, and the example files of settings."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from shared.config import Settings
from shared.config.sources import is_secret, variable
from shared.errors import ConfigError
from shared.topology import Owner
from tests.modules import ROOT

EXAMPLE = ROOT / "docs" / "postrider.toml"
KEY = "".join(f"{number:02x}" for number in range(32))
SECRETS = {
    "AMQP_URL": "amqp://localhost/",
    "SEALING_KEY": KEY,
    "SUPPRESSION_KEY": KEY,
    "OTP_KEY": KEY,
    "GATEWAY_ADMIN_TOKEN": KEY,
    "GATEWAY_KEY_SECRET": KEY,
    "LINK_KEY": KEY,
    "BOUNCE_KEY": KEY,
    "WEBHOOK_KEY": KEY,
    "CONSOLE_SESSION_KEY": KEY,
    "CONSOLE_TOKEN": KEY,
    "SENDER_SMTP_PASSWORD": "hunter2",
}
HELP_SECONDS = 30.0  # to start Python and its libraries on a busy machine


def settings_of(service: str) -> type[Settings]:
    """Return the class of settings in a service's `config`."""
    module = import_module(f"services.{service}.config")
    (found,) = (
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Settings) and "service" in vars(each)
    )
    return found


@pytest.mark.parametrize("service", Owner)
def test_help_tells_all_settings_without_any(service: str) -> None:
    """`--help` works without settings, and describes each of them."""
    done = subprocess.run(  # noqa: S603 -- our own modules
        [sys.executable, "-m", f"services.{service}", "--help"],
        env={},
        capture_output=True,
        text=True,
        timeout=HELP_SECONDS,
        check=True,
    ).stdout

    fields = settings_of(service).model_fields
    assert not [name for name, setting in fields.items() if not setting.description]
    assert not [name for name in fields if variable(name) not in done]
    for name, setting in fields.items():
        assert (f"--{name.replace('_', '-')} " in done) is not is_secret(setting), name


@pytest.mark.parametrize("service", Owner)
@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_the_example_is_good_for_all_services(service: str, suffix: str, tmp_path: Path) -> None:
    """The example is valid for every service, as TOML and as JSON."""
    path = tmp_path / f"postrider{suffix}"
    path.write_text(
        EXAMPLE.read_text() if suffix == ".toml" else json.dumps(tomllib.loads(EXAMPLE.read_text()))
    )

    loaded = settings_of(service).load(SECRETS, ["--config", str(path)])

    assert loaded.data_dir == Path("/var/lib/postrider")
    assert loaded.log_level == ("WARNING" if service == "classifier" else "INFO")


@pytest.mark.parametrize("value", ["x", "-1", "1e99", "[1]", "{}", '{"a": {"b": 1}}'])
@pytest.mark.parametrize("service", Owner)
def test_mistakes_have_plain_words(service: str, value: str) -> None:
    """No mistake names a type of Python, a validator or a regular expression, as pydantic does."""
    settings = settings_of(service)

    with pytest.raises(ConfigError) as caught:
        settings.load({variable(name): value for name in settings.model_fields})
    words = re.compile(r"\bInput\b|\bshould\b|Field required|\bvalid\b|pattern|lax-or-strict")
    assert not [line for line in str(caught.value).splitlines() if words.search(line)]


def test_the_example_reaches_the_settings() -> None:
    """The values of the example reach the settings."""
    sender = settings_of("sender").load(SECRETS, ["--config", str(EXAMPLE)])

    assert getattr(sender, "sender_domain_rates") == {"big.example": 10, "small.example": 0.5}  # noqa: B009 -- of a class found at run time
    assert sender.health_port == 8091


def test_the_example_of_compose_names_what_compose_reads() -> None:
    """.env.example shows all variables of compose.yaml, and no others."""
    shown = set(re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    compose = (ROOT / "compose.yaml").read_text()
    by_name = re.findall(r"^ +([A-Z_]+):$", compose, re.MULTILINE)  # as the environment has it
    assert shown == {*re.findall(r"[^$]\$\{([A-Z_]+)", compose), *by_name}
