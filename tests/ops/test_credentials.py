"""Secrets in a file, and the credentials of the containers."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ops import credentials
from ops.credentials import SecretFile
from ops.stack.settings import StackError
from shared.topology import Owner


def test_a_secret_is_made_once_and_found_again(tmp_path: Path) -> None:
    """A second `make up` has the secrets of the first one."""
    first = SecretFile(tmp_path / "secrets.json", {}).get("SEALING_KEY")

    assert SecretFile(tmp_path / "secrets.json", {}).get("SEALING_KEY") == first
    assert len(bytes.fromhex(first)) == 32


def test_two_secrets_are_two(tmp_path: Path) -> None:
    """Each secret has a value of its own."""
    keys = SecretFile(tmp_path / "secrets.json", {})

    assert keys.get("SEALING_KEY") != keys.get("OTP_KEY")


def test_the_environment_wins_and_is_not_kept(tmp_path: Path) -> None:
    """A secret of the environment takes precedence and is not written."""
    path = tmp_path / "secrets.json"

    assert SecretFile(path, {"OTP_KEY": "given"}).get("OTP_KEY") == "given"
    assert SecretFile(path, {}).get("OTP_KEY") != "given"


def test_only_the_owner_may_read_them(tmp_path: Path) -> None:
    """The file is readable by its owner alone."""
    path = tmp_path / "secrets.json"
    SecretFile(path, {}).get("OTP_KEY")

    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_is_one_clear_line(tmp_path: Path) -> None:
    """A damaged file is an error in one line."""
    path = tmp_path / "secrets.json"
    path.touch(mode=0o600)
    path.write_text("{")

    with pytest.raises(StackError, match="is damaged: delete it"):
        SecretFile(path, {})


def read(root: Path) -> dict[str, dict[str, str]]:
    """Return the written values by container and variable."""
    return {
        folder.name: {file.name: file.read_text() for file in folder.iterdir()}
        for folder in root.iterdir()
        if folder.name != "keys"
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write the credentials of a first start."""
    credentials.write(tmp_path, {})
    return tmp_path


def test_a_second_start_finds_the_same(root: Path) -> None:
    """A second start keeps all passwords: broker and database keep theirs."""
    first = read(root)
    credentials.write(root, {})

    assert read(root) == first


def test_every_stack_has_its_own(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No password follows from this repository."""
    other = tmp_path_factory.mktemp("other")
    credentials.write(other, {})
    mine = {text for variables in read(root).values() for text in variables.values()}
    theirs = {text for variables in read(other).values() for text in variables.values()}

    assert not mine & theirs


def test_a_given_secret_wins(root: Path) -> None:
    """A secret of the environment takes precedence over a stored one."""
    credentials.write(root, {"GATEWAY_ADMIN_TOKEN": "a token of mine"})

    assert read(root)["gateway"]["GATEWAY_ADMIN_TOKEN"] == "a token of mine"


@pytest.mark.parametrize("service", Owner)
def test_both_sides_of_a_login_agree(root: Path, service: str) -> None:
    """The password in a service's URL is that of its account."""
    written = read(root)
    urls = [urlsplit(written[service][name]) for name in ("AMQP_URL", "DATABASE_URL")]

    assert [url.username for url in urls] == [service, service]
    assert [url.password for url in urls] == [
        written["topology"][f"{service.upper()}_AMQP_PASSWORD"],
        written["roles"][f"{service.upper()}_DATABASE_PASSWORD"],
    ]


def test_a_cluster_is_reached_by_all_of_its_nodes(tmp_path: Path) -> None:
    """RABBITMQ_HOSTS is in the URL of each service, and none sees the cookie of the nodes."""
    credentials.write(tmp_path, {"RABBITMQ_HOSTS": "a,b,c"})
    written = read(tmp_path)
    cookie = written["rabbitmq"]["ERLANG_COOKIE"]

    assert {written[each]["AMQP_URL"].partition("@")[2] for each in (*Owner, "topology")} == {
        "a,b,c/"
    }
    assert [name for name, found in written.items() if cookie in found.values()] == ["rabbitmq"]


def test_administrators_agree(root: Path) -> None:
    """The administrator's passwords are those of broker and database."""
    written = read(root)

    assert (
        urlsplit(written["topology"]["AMQP_URL"]).password
        == written["rabbitmq"]["RABBITMQ_DEFAULT_PASS"]
    )
    assert written["roles"]["PGPASSWORD"] == written["postgres"]["POSTGRES_PASSWORD"]


def test_services_share_the_secrets_of_what_they_exchange_alone(root: Path) -> None:
    """No other service can read a code, sign a client's key or publish as another."""
    written = read(root)
    shared = {
        (one, other, name)
        for one in Owner
        for other in Owner
        if one < other
        for name, text in written[one].items()
        if text in written[other].values()
    }

    assert shared == {
        ("otp", "sender", "SEALING_KEY"),
        ("ledger", "sender", "SUPPRESSION_KEY"),
        ("gateway", "scheduler", "LINK_KEY"),
        ("inbound", "sender", "BOUNCE_KEY"),
    }


def test_the_file_of_secrets_is_the_owners_alone(root: Path) -> None:
    """The file with all secrets is in no folder of a container."""
    keys = root / "keys" / "keys.json"

    assert keys.stat().st_mode & 0o077 == 0
    assert json.loads(keys.read_text())


def test_a_damaged_file_of_secrets_is_reported(root: Path) -> None:
    """A damaged file is an error: new secrets would not open an old database."""
    (root / "keys" / "keys.json").write_text("{")

    with pytest.raises(StackError, match="damaged"):
        credentials.write(root, {})


def test_a_file_of_secrets_that_others_can_read_is_reported(root: Path) -> None:
    """A file that other users can read is an error."""
    (root / "keys" / "keys.json").chmod(0o644)

    with pytest.raises(StackError, match=r"others can read .+/keys\.json \(mode 0644\): chmod 600"):
        credentials.write(root, {})


def test_without_a_folder_the_usage_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a folder the usage is printed."""
    monkeypatch.setattr("sys.argv", ["credentials"])

    assert credentials.main() == 2
    assert capsys.readouterr().err == "usage: python -m ops.credentials FOLDER\n"
