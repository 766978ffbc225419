"""The broker of a command: the nearest name counts, checked before anything connects."""

import json
from pathlib import Path

import pytest

from ops import target
from ops.__main__ import main
from ops.broker import Broker as Node
from ops.broker import BrokerError
from shared.topology import RUNNING

URLS = {"amqp_url": "amqp://stack/", "management_url": "http://stack/"}


@pytest.fixture
def stack(tmp_path: Path) -> dict[str, str]:
    """Leave the record of a running stack, and return the environment that finds it."""
    (tmp_path / "stack.json").write_text(json.dumps(URLS))
    return {"RUN_DIR": str(tmp_path)}


def test_the_nearest_name_counts(stack: dict[str, str]) -> None:
    """A flag goes over a variable, a variable over the running stack."""
    named = stack | {"AMQP_URL": "amqp://v/", "RABBITMQ_MANAGEMENT_URL": "http://v/"}

    assert target.find("amqp://f/", named) == "amqp://f/"
    assert target.find(None, named) == "amqp://v/"
    assert target.find(None, stack) == "amqp://stack/"
    assert target.find_management("http://f/", named) == "http://f/"
    assert target.find_management(None, named) == "http://v/"
    assert target.find_management(None, stack) == "http://stack/"


def test_a_stack_on_a_given_broker_knows_no_management_address(tmp_path: Path) -> None:
    """Then it has to be named."""
    (tmp_path / "stack.json").write_text('{"amqp_url": "amqp://h/", "management_url": null}')

    with pytest.raises(BrokerError, match="no management API: give --management-url"):
        target.find_management(None, {"RUN_DIR": str(tmp_path)})


@pytest.mark.rabbit
def test_the_running_stack_is_enough(
    rabbit: Node, vhost: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Beside `make up` no address is needed."""
    where = {"amqp_url": vhost, "management_url": rabbit.address.management_url}
    (tmp_path / "stack.json").write_text(json.dumps(where))
    monkeypatch.setenv("RUN_DIR", str(tmp_path))
    for owner in RUNNING:
        monkeypatch.setenv(f"{owner.upper()}_AMQP_PASSWORD", "secret" * 6)

    assert [main(["topology", act]) for act in ("declare", "grant")] == [0, 0]


@pytest.mark.parametrize("action", ["declare", "grant"])
def test_an_address_that_is_none_is_told(
    action: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By what named it, with the exit code of a wrong command line."""
    monkeypatch.setenv("AMQP_URL", "http://hunter2/")

    codes = [main(["topology", action, *words]) for words in (["--amqp-url", "amqp://h:x"], [])]

    assert codes == [2, 2]
    told = capsys.readouterr().err
    assert "--amqp-url: the host or the port" in told
    assert "AMQP_URL: must begin with amqp:// or amqps://" in told
    assert "hunter2" not in told
