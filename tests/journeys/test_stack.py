"""`make up` and its end."""

import json
from pathlib import Path

import pytest

from ops.process import ProcessRecord
from tests.journeys.stack import Stack, fresh_environ, running
from tests.journeys.user import User

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]


def recorded(run_dir: Path) -> list[ProcessRecord]:
    """Return the processes that the stack has recorded."""
    noted = [ProcessRecord.read(path.read_text()) for path in (run_dir / "pids").iterdir()]
    return [process for process in noted if process is not None]


async def test_a_second_stack_finds_its_data(tmp_path: Path) -> None:
    """Ctrl-C ends everything with code 0; the next `up` has the key, the domain and the mail."""
    environ = fresh_environ(tmp_path / "run")
    with running(tmp_path / "run", environ) as first:
        async with User.of(first.record) as user:
            await user.send("kept@mail.example")
            await user.wait_for_mails("kept@mail.example")
            await user.wait_for_domain("mail.example", 1)
        key, started = first.record["client_key"], recorded(first.run_dir)
        code = first.stop()
    left = [process for process in started if process.runs]

    assert code == 0
    assert len(started) >= 6
    assert left == []
    assert not (first.run_dir / "stack.json").exists()

    with running(tmp_path / "run", environ) as second:
        assert second.record["client_key"] == key
        async with User.of(second.record) as user:
            described = await user.wait_for_domain("mail.example", 1)
            mails = await user.mails("kept@mail.example")
        assert described["delivered"] == 1
        assert len(mails) == 1


def test_the_record_says_where_everything_is(stack: Stack) -> None:
    """`stack.json` has exactly the promised fields, readable for its owner alone."""
    path = stack.run_dir / "stack.json"
    record = json.loads(path.read_text())
    mode = path.stat().st_mode & 0o777

    assert set(record) == {
        "gateway_url",
        "admin_token",
        "client_key",
        "amqp_url",
        "management_url",
        "smtp_host",
        "smtp_port",
        "mailbox_url",
        "services",
    }
    assert set(record["services"]) == {"gateway", "sender", "otp", "classifier", "ledger"}
    assert all(set(each) == {"pid", "health_url"} for each in record["services"].values())
    assert mode == 0o600
