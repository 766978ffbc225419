"""The layer of the environment: the variables, and the files that hold secrets."""

from pathlib import Path

import pytest

from shared.config import environment
from tests.shared.config.demo import SECRET, DemoSettings


def secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_bytes(text.encode(errors="surrogateescape"))


def test_a_variable_gives_a_value_or_a_list_or_a_table() -> None:
    """What has parts is JSON; what is empty or another program's is not ours."""
    layer = environment.read(
        DemoSettings,
        "demo",
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
    secret(tmp_path / "key", f"{SECRET}\n")

    layer = environment.read(DemoSettings, "demo", {"DEMO_KEY_FILE": str(tmp_path / "key")})

    assert layer.values == {"demo_key": SECRET}
    assert layer.names["demo_key"] == "DEMO_KEY_FILE"


def test_only_a_secret_lies_in_a_file(tmp_path: Path) -> None:
    """A variable of that form may be a setting's own name, or another program's."""
    (tmp_path / "port").write_text("1")

    assert not environment.read(
        DemoSettings, "demo", {"DEMO_PORT_FILE": str(tmp_path / "port")}
    ).values


def test_a_secret_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    """It is told with the others; so is a secret that is given twice, and neither is shown."""
    missing = environment.read(DemoSettings, "demo", {"DEMO_KEY_FILE": str(tmp_path / "none")})
    secret(tmp_path / "key", SECRET)
    twice = environment.read(
        DemoSettings, "demo", {"DEMO_KEY": "hunter2", "DEMO_KEY_FILE": str(tmp_path / "key")}
    )

    assert missing.mistakes == ("DEMO_KEY_FILE: No such file or directory",)
    assert twice.mistakes == (
        "DEMO_KEY_FILE: DEMO_KEY is set as well, and which one counts is not to be seen",
    )


@pytest.mark.parametrize("octets", [b"\xff", b"\xc3("])
def test_a_secret_that_is_no_text_is_a_mistake(tmp_path: Path, octets: bytes) -> None:
    """A key in a binary form is told by the variable that names its file."""
    secret(tmp_path / "key", octets.decode(errors="surrogateescape"))

    layer = environment.read(DemoSettings, "demo", {"DEMO_KEY_FILE": str(tmp_path / "key")})

    assert [line.partition(":")[0] for line in layer.mistakes] == ["DEMO_KEY_FILE"]


def test_a_secret_that_others_can_read_is_a_mistake(tmp_path: Path) -> None:
    """Any user of the machine could have it already."""
    secret(tmp_path / "key", SECRET)
    (tmp_path / "key").chmod(0o644)

    layer = environment.read(DemoSettings, "demo", {"DEMO_KEY_FILE": f"{tmp_path}/key"})

    assert layer.mistakes == (
        f"DEMO_KEY_FILE: others can read {tmp_path}/key (mode 0644): chmod 600 {tmp_path}/key",
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("DEMO_PROT", "; perhaps DEMO_PORT?"),
        ("demo_prot", "; perhaps DEMO_PORT?"),
        ("DEMO_LOG_LEVEL", "; perhaps LOG_LEVEL?"),
        ("DEMO_KEY_FLIE", "; perhaps DEMO_KEY_FILE?"),
        ("DEMO_WALLPAPER", ""),
    ],
)
def test_a_variable_that_is_no_setting_is_a_mistake(name: str, hint: str) -> None:
    """A misspelled setting would otherwise be its default, and nobody would see that."""
    layer = environment.read(DemoSettings, "demo", {name: "3"})

    assert layer.mistakes == (f"{name}: there is no such setting{hint}",)


@pytest.mark.parametrize(
    "name",
    [
        "DEMO_SERVICE_HOST",
        "DEMO_SERVICE_PORT",
        "DEMO_SERVICE_PORT_HTTP",
        "DEMO_CACHE_SERVICE_PORT_HTTP",
        "DEMO_PORT_8091_TCP",
        "DEMO_PORT_8091_TCP_ADDR",
        "DEMO_PORT_53_UDP_PROTO",
        "DEMO_ENV_PATH",
        "DEMO_AMQP_PASSWORD",
        "DEMO_DATABASE_PASSWORD",
        "OTHER_PROT",
        "DEMOS_PROT",
    ],
)
def test_what_is_said_to_others_is_no_mistake(name: str) -> None:
    """Kubernetes and Docker make variables of the names of services, which nobody can prevent."""
    layer = environment.read(DemoSettings, "demo", {name: "10.0.0.1"})

    assert not layer.mistakes
    assert not layer.values


def test_an_orchestrators_link_is_no_port() -> None:
    """A Service `demo` makes a variable of the very name of a setting, with an address in it."""
    layer = environment.read(DemoSettings, "demo", {"DEMO_PORT": "tcp://10.0.0.1:8080"})

    assert layer == environment.read(DemoSettings, "demo", {})
