"""`make up` and its end."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ops.process import ProcessRecord
from shared.topology import Owner
from tests.journeys.stack import Stack, fresh_environ, running
from tests.journeys.user import User
from tests.waiting import until

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
    assert len(started) >= 7
    assert left == []
    assert not (first.run_dir / "stack.json").exists()

    with running(tmp_path / "run", environ) as second:
        assert second.record["client_key"] == key
        async with User.of(second.record) as user:
            described = await user.wait_for_domain("mail.example", 1)
            mails = await user.mails("kept@mail.example")
        assert described["delivered"] == 1
        assert len(mails) == 1


ADDRESS = "only.here@log.example"
REFUSED_ADDRESS = "reply-rcpt-550-5-1-1@log.example"
REQUESTS: Sequence[tuple[str, str, object]] = [
    ("PUT", "/v1/suppressions/{}", {"reason": "by telephone"}),
    ("GET", "/v1/suppressions/{}", None),
    ("DELETE", "/v1/suppressions/{}", None),
    ("POST", "/v1/suppressions/{}/nowhere", None),
    ("POST", "/v1/suppressions/batch", {"add": ["{}"]}),
    ("POST", "/v1/suppressions/batch", {"remove": ["{}"]}),
    ("GET", "/v1/suppressions?after={}", None),
    ("GET", "/v1/messages?recipient={}", None),
    ("GET", "/v1/messages/{}", None),
    ("DELETE", "/v1/messages/{}", None),
    ("GET", "/v1/stats?domain={}", None),
    ("GET", "/v1/domains/{}", None),
    ("PUT", "/v1/events/{}/delivered", None),
    ("POST", "/v1/events", {"events": [{"domain": "{}", "outcome": "delivered"}]}),
    ("POST", "/v1/otp", {"email": "{}"}),
    ("POST", "/v1/otp/verify", {"email": "{}", "code": "000000"}),
    ("DELETE", "/v1/otp/{}", None),
    ("POST", "/v1/tasks", {"type": "email", "to": "{}"}),
    ("POST", "/v1/messages", {"to": "{}", "subject": 1}),
    ("POST", "/v1/messages/batch", [{"to": "{}", "subject": "Hi", "text": "Hi."}]),
]


async def test_no_log_has_an_address(stack: Stack, user: User) -> None:
    """No service logs an address whole, in whatever request, mail or outcome it was."""
    for address in (ADDRESS, REFUSED_ADDRESS):
        for method, path, body in REQUESTS:
            content = json.loads(json.dumps(body).replace("{}", address))
            await user.ask(method, path.replace("{}", address), content)
    for address in (ADDRESS, REFUSED_ADDRESS):
        await user.ask(
            "POST",
            "/v1/messages",
            {"to": address, "subject": "Hello", "text": "It works."},
            headers={"Prefer": "wait=10"},
        )
    last = (await user.ask("GET", "/nowhere")).headers["X-Request-ID"]

    async def is_logged() -> bool:
        return last in (stack.run_dir / "logs" / "gateway.log").read_text()

    await until(is_logged)
    logs = {path.stem: path.read_text() for path in (stack.run_dir / "logs").iterdir()}
    assert {"gateway", "sender"} <= logs.keys()
    assert "/v1/suppressions/o***@log.example" in logs["gateway"]
    for text in (*logs.values(), stack.output()):
        assert [line for line in text.splitlines() if ADDRESS in line] == []
        assert [line for line in text.splitlines() if REFUSED_ADDRESS in line] == []


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
        "console_url",
        "console_token",
        "client_id",
        "submission_port",
        "submission_tls_port",
        "report_port",
        "services",
    }
    assert set(record["services"]) == set(Owner)
    assert all(set(each) == {"pid", "health_url"} for each in record["services"].values())
    assert mode == 0o600
