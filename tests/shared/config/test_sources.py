"""The file and the environment: sections, variables, files of secrets, unknown names."""

import json
import os
import warnings
from pathlib import Path

import pytest

from shared.config import SettingsWarning, check_private, sources
from shared.config.sources import Layer, perhaps
from tests.shared.config.demo import SECRET, DemoSettings

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
    return sources.read_file(DemoSettings, "demo", path)


@pytest.mark.parametrize(("name", "text"), [("x.toml", TOML), ("x.json", json.dumps(TREE))])
def test_a_section_says_what_is_a_services_own(tmp_path: Path, name: str, text: str) -> None:
    """One file serves all services: shared settings are at its top, a section overrides them."""
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
    ("text", "reason"),
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
def test_an_unknown_word_is_reported_with_the_nearest(
    tmp_path: Path, text: str, reason: str
) -> None:
    """A misspelt setting is a mistake, with a hint at the nearest one."""
    assert read(tmp_path / "x.toml", text).mistakes == (f"{tmp_path / 'x.toml'}: {reason}",)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("x.toml", "a = ", "cannot be read: Invalid value"),
        ("x.json", "{", "cannot be read: Expecting property name"),
        ("x.json", "1", "cannot be read: "),
        ("x.yaml", "", "its name must end in .toml or .json"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_mistake(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    """A file that cannot be read is reported with its name and reason."""
    (mistake,) = read(tmp_path / name, text).mistakes

    assert mistake.startswith(f"{tmp_path / name}: {reason}")


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    """A missing file is a mistake, and so is a directory."""
    (missing,) = sources.read_file(DemoSettings, "demo", tmp_path / "x.toml").mistakes
    (tmp_path / "y.toml").mkdir()
    (directory,) = sources.read_file(DemoSettings, "demo", tmp_path / "y.toml").mistakes

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


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_bytes(text.encode(errors="surrogateescape"))


def test_a_variable_gives_a_value_or_a_list_or_a_table() -> None:
    """Lists and tables are JSON; empty variables and those of other programs are skipped."""
    layer = sources.read_environment(
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
    """A secret may be read from a file; the line break at its end is no part of it."""
    write_secret(tmp_path / "key", f"{SECRET}\n")

    layer = sources.read_environment(DemoSettings, "demo", {"DEMO_KEY_FILE": str(tmp_path / "key")})

    assert layer.values == {"demo_key": SECRET}
    assert layer.names["demo_key"] == "DEMO_KEY_FILE"


def test_only_a_secret_lies_in_a_file(tmp_path: Path) -> None:
    """A variable of that form may be a setting's own name, or another program's."""
    (tmp_path / "port").write_text("1")

    assert not sources.read_environment(
        DemoSettings, "demo", {"DEMO_PORT_FILE": str(tmp_path / "port")}
    ).values


def test_a_secret_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    """A missing file of a secret is reported, and so is a secret that is set twice."""
    none = {"DEMO_KEY_FILE": str(tmp_path / "none")}
    missing = sources.read_environment(DemoSettings, "demo", none)
    write_secret(tmp_path / "key", SECRET)
    twice = sources.read_environment(
        DemoSettings, "demo", {"DEMO_KEY": "hunter2", "DEMO_KEY_FILE": str(tmp_path / "key")}
    )

    assert missing.mistakes == ("DEMO_KEY_FILE: No such file or directory",)
    assert twice.mistakes == (
        "DEMO_KEY_FILE: DEMO_KEY is set as well, and which one counts is not to be seen",
    )


@pytest.mark.parametrize("octets", [b"\xff", b"\xc3("])
def test_a_secret_that_is_no_text_is_a_mistake(tmp_path: Path, octets: bytes) -> None:
    """A file of a secret that is no text is reported with its variable."""
    write_secret(tmp_path / "key", octets.decode(errors="surrogateescape"))

    layer = sources.read_environment(DemoSettings, "demo", {"DEMO_KEY_FILE": str(tmp_path / "key")})

    assert [line.partition(":")[0] for line in layer.mistakes] == ["DEMO_KEY_FILE"]


def test_a_secret_that_others_can_read_is_a_mistake(tmp_path: Path) -> None:
    """A file of a secret that others can read is refused."""
    write_secret(tmp_path / "key", SECRET)
    (tmp_path / "key").chmod(0o644)

    layer = sources.read_environment(DemoSettings, "demo", {"DEMO_KEY_FILE": f"{tmp_path}/key"})

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
    """A misspelled variable of a service is a mistake, with a hint at the nearest one."""
    layer = sources.read_environment(DemoSettings, "demo", {name: "3"})

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
def test_variables_of_other_programs_are_no_mistake(name: str) -> None:
    """Variables that Kubernetes and Docker make of the names of services are no mistakes."""
    layer = sources.read_environment(DemoSettings, "demo", {name: "10.0.0.1"})

    assert not layer.mistakes
    assert not layer.values


def test_an_orchestrators_link_is_no_port() -> None:
    """A Service `demo` makes a variable of the very name of a setting, with an address in it."""
    layer = sources.read_environment(DemoSettings, "demo", {"DEMO_PORT": "tcp://10.0.0.1:8080"})

    assert layer == sources.read_environment(DemoSettings, "demo", {})


@pytest.mark.parametrize(
    ("word", "hint"),
    [("prot", "; perhaps the port?"), ("PORT", "; perhaps the port?"), ("sealing", "")],
)
def test_only_a_similar_name_is_suggested(word: str, hint: str) -> None:
    """A hint names only a word that is near."""
    assert perhaps(word, {"port": "the port", "host": "the host"}) == hint


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Write a file that only its owner can read."""
    path = tmp_path / "key"
    path.touch(mode=0o600)
    return path


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_file_of_the_owner_alone_is_taken(key: Path, mode: int) -> None:
    """A file that only its owner can read is accepted."""
    key.chmod(mode)

    assert check_private(key) == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666])
def test_a_file_that_others_can_read_is_refused(key: Path, mode: int) -> None:
    """A file that others can read is refused, with the command that corrects it."""
    key.chmod(mode)

    with pytest.raises(ValueError, match=rf"others can read .+ \(mode {mode:04o}\): chmod 600 "):
        check_private(key)


def test_a_link_is_as_private_as_its_target(key: Path, tmp_path: Path) -> None:
    """Kubernetes mounts links to its files."""
    (tmp_path / "link").symlink_to(key)

    assert check_private(tmp_path / "link") == tmp_path / "link"


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """A shell's <(pass show key) is a pipe, which is read once."""
    os.mkfifo(tmp_path / "pipe", mode=0o644)

    assert check_private(tmp_path / "pipe") == tmp_path / "pipe"


@pytest.mark.parametrize("mode", [0o444, 0o644])
def test_an_orchestrators_secret_is_taken_with_a_warning(
    key: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret of root, mounted for the one user of a container, is accepted with a warning."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    key.chmod(mode)

    with pytest.warns(SettingsWarning, match=rf"all users can read .+ \(mode {mode:04o}\)"):
        assert check_private(key) == key


def test_a_secret_on_a_read_only_mount_is_taken_with_a_warning(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret on a read-only mount is accepted with a warning."""
    key.chmod(0o444)
    flags = os.statvfs(key).f_flag | os.ST_RDONLY
    mounted = os.statvfs_result((0, 0, 0, 0, 0, 0, 0, 0, flags, 0))
    monkeypatch.setattr(os, "statvfs", lambda _: mounted)

    with pytest.warns(SettingsWarning):
        assert check_private(key) == key


def test_a_secret_for_a_group_is_taken(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that a group can read is accepted if the service's user does not own it."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    key.chmod(0o440)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_private(key) == key
