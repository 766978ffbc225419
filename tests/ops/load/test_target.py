"""Which stack is put under load: never another machine's by mistake."""

import argparse
import json
from pathlib import Path

import pytest

from ops.load import target
from ops.load.errors import LoadError
from ops.load.target import Target
from shared.errors import ConfigError

RECORD = {
    "gateway_url": "http://127.0.0.1:1",
    "mailbox_url": "http://127.0.0.1:2",
    "client_key": "k",
    "amqp_url": "amqp://u:p@127.0.0.1:3/",
    "management_url": None,
}


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    """Leave the record of a running stack."""
    (tmp_path / "stack.json").write_text(json.dumps(RECORD))
    return str(tmp_path)


def find(environ: dict[str, str], *words: str) -> Target:
    """Find the target of a command line."""
    parser = argparse.ArgumentParser()
    target.add_arguments(parser)
    return target.find(parser.parse_args(words), environ)


def test_the_running_stack_is_the_target(run_dir: str) -> None:
    """Who has started one need not say where it is."""
    found = find({"RUN_DIR": run_dir})

    assert found == Target(**{name: str(RECORD[name]) for name in Target.__dataclass_fields__})


def test_what_is_named_goes_over_it(run_dir: str) -> None:
    """Secrets come by the environment: command lines can be read by others."""
    environ = {"RUN_DIR": run_dir, "CLIENT_KEY": "other", "AMQP_URL": "amqp://localhost/"}

    found = find(environ, "--gateway-url", "http://[::1]:9")

    assert (found.gateway_url, found.client_key) == ("http://[::1]:9", "other")
    assert (found.mailbox_url, found.amqp_url) == (RECORD["mailbox_url"], "amqp://localhost/")


@pytest.mark.parametrize(
    "host", ["mail.example", "10.0.0.1", "localhost.example", "192.0.2.1", "127.0.0.1.example"]
)
def test_another_machine_has_to_be_meant(run_dir: str, host: str) -> None:
    """A load on who does not expect it is an attack."""
    words = ("--gateway-url", f"http://{host}/")

    with pytest.raises(LoadError, match=f"gateway_url: {host} is not this machine; --remote"):
        find({"RUN_DIR": run_dir}, *words)
    assert find({"RUN_DIR": run_dir}, *words, "--remote").url("gateway_url").host == host


def test_a_broker_elsewhere_has_to_be_meant_too(run_dir: str) -> None:
    """The way in makes no difference, and the password is not told."""
    with pytest.raises(LoadError) as caught:
        find({"RUN_DIR": run_dir, "AMQP_URL": "amqp://u:hunter2@mail.example/"})

    assert "amqp_url: mail.example is not this machine" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gateway_url", "--gateway-url is needed, or a stack that runs: make up"),
        ("client_key", "CLIENT_KEY is needed, or a stack that runs: make up"),
    ],
)
def test_without_a_stack_what_is_missing_is_told(tmp_path: Path, name: str, told: str) -> None:
    """The line says what to give."""
    found = find({"RUN_DIR": str(tmp_path)})

    with pytest.raises(LoadError, match=told):
        found.said(name)


def test_no_secret_is_in_its_text(run_dir: str) -> None:
    """A traceback shows no key and no password."""
    text = repr(find({"RUN_DIR": run_dir}))

    assert "u:p@" not in text
    assert "client_key" not in text


def test_addresses_that_are_none_are_told_at_once(run_dir: str) -> None:
    """By what names them, before anything connects."""
    (Path(run_dir) / "stack.json").write_text('{"mailbox_url": "127.0.0.1"}')

    with pytest.raises(ConfigError) as caught:
        find({"RUN_DIR": run_dir, "AMQP_URL": "hunter2"}, "--gateway-url", "notaurl")

    assert str(caught.value).splitlines() == [
        "--gateway-url: must begin with http:// or https://",
        "stack.json: mailbox_url: must begin with http:// or https://",
        "AMQP_URL: must begin with amqp:// or amqps://",
    ]
