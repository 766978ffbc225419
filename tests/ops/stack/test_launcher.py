"""`ops up` and `ops down` as a user runs them, with ports and a directory of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from ops import ports
from ops.process import PidFiles, ProcessRecord
from ops.stack.settings import PORTS, SERVICES

_LAST_LINE = "Ctrl-C ends all of it."


class Stack:
    """A stack with ports and a directory of its own."""

    def __init__(self, run_dir: Path, **environ: str) -> None:
        self.run_dir = run_dir
        numbers = ports.unused(len(PORTS))
        chosen = {name: str(port) for name, port in zip(PORTS, numbers, strict=True)}
        self.environ = {**os.environ, **chosen, "RUN_DIR": str(run_dir), **environ}
        self.launchers: list[subprocess.Popen[str]] = []

    @property
    def record(self) -> dict[str, Any]:
        """The content of stack.json."""
        return dict(json.loads((self.run_dir / "stack.json").read_text()))

    @property
    def running(self) -> dict[str, ProcessRecord]:
        """The recorded processes that run."""
        return PidFiles(self.run_dir / "pids").running()

    def up(self) -> subprocess.Popen[str]:
        """Start the stack and wait until it says that it is up."""
        launcher = subprocess.Popen(
            [sys.executable, "-m", "ops", "up"],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.launchers.append(launcher)
        read_until(launcher.stdout, _LAST_LINE)
        return launcher

    def ops(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run another command to its end."""
        return subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "ops", command],
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )


def read_until(output: IO[str] | None, text: str) -> None:
    """Read lines until one contains the text; the test's time limit is the deadline."""
    lines = []
    for line in output or ():
        lines.append(line)
        if text in line:
            return
    pytest.fail("".join(["the output ended:\n", *lines]))


def stack(run_dir: Path, **environ: str) -> Iterator[Stack]:
    """Return a stack, and end its processes after the test."""
    stack = Stack(run_dir, **environ)
    yield stack
    for launcher in stack.launchers:
        launcher.kill()
        launcher.wait()
        if launcher.stdout is not None:
            launcher.stdout.close()
    stack.ops("down")


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """Return a stack that runs a broker of its own."""
    yield from stack(tmp_path / "run", AMQP_URL="")


@pytest.fixture
def stack_on_vhost(tmp_path: Path, vhost: str) -> Iterator[Stack]:
    """Return a stack on a given broker."""
    yield from stack(tmp_path / "run", AMQP_URL=vhost)


@pytest.mark.journey
def test_up_brings_everything_and_ends_with_everything(own_stack: Stack) -> None:
    """The stack is ready when it says so, and a signal ends all of it."""
    launcher = own_stack.up()
    record = own_stack.record
    processes = own_stack.running.values()

    files = [each for each in own_stack.run_dir.rglob("*") if each.is_file()]
    readable = [each for each in files if each.stat().st_mode & 0o077]
    assert {"stack.json", "ledger.sqlite"} <= {each.name for each in files}
    assert readable == []
    assert record.keys() == {
        *("gateway_url", "admin_token", "client_key", "amqp_url", "management_url"),
        *("smtp_host", "smtp_port", "mailbox_url", "services"),
        *("client_id", "submission_port", "submission_tls_port", "report_port"),
        *("console_url", "console_token"),
    }
    assert record["services"].keys() == set(SERVICES)
    for service in record["services"].values():
        with urllib.request.urlopen(service["health_url"]) as response:  # noqa: S310 - our own
            assert response.status == 200

    launcher.send_signal(signal.SIGTERM)
    output, _ = launcher.communicate()

    assert launcher.returncode == 0, output
    assert "nothing is left running" in output
    assert not any(process.runs for process in processes)
    assert not (own_stack.run_dir / "stack.json").exists()


@pytest.mark.journey
@pytest.mark.rabbit
def test_a_service_that_dies_comes_back_and_the_record_follows(stack_on_vhost: Stack) -> None:
    """stack.json has the process ids of restarted services."""
    launcher = stack_on_vhost.up()
    before = stack_on_vhost.record["services"]["otp"]["pid"]
    os.kill(before, signal.SIGKILL)
    read_until(launcher.stdout, "otp was ended by SIGKILL: starting it again")
    read_until(launcher.stdout, "otp runs again")
    after = stack_on_vhost.record["services"]["otp"]["pid"]

    assert after != before
    assert stack_on_vhost.running["otp"].pid == after


@pytest.mark.journey
@pytest.mark.timeout(400)  # two starts of a stack, each in 60 s beside busy neighbours
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda number: number.name)
def test_nothing_outlives_its_launcher(own_stack: Stack, number: signal.Signals) -> None:
    """Services, mailbox and broker end with a killed launcher, and a next one starts."""
    launcher = own_stack.up()
    left = own_stack.running
    launcher.send_signal(number)
    launcher.wait()

    assert {*SERVICES, "simulator", "rabbitmq", "epmd"} <= set(left)
    assert all(process.gone(within=60) for process in left.values())
    assert own_stack.ops("down").stdout == "postrider: nothing is running\n"
    own_stack.up()


@pytest.mark.journey
def test_a_broker_that_dies_comes_back_and_the_services_with_it(own_stack: Stack) -> None:
    """A crashed broker is restarted, and the services reconnect."""
    launcher = own_stack.up()
    before = own_stack.running["rabbitmq"]
    before.signal(signal.SIGKILL)
    read_until(launcher.stdout, "RabbitMQ was ended by SIGKILL: starting it again in 0.5 seconds")
    read_until(launcher.stdout, "RabbitMQ runs again")
    record = own_stack.record
    key = {"Authorization": f"Bearer {record['client_key']}"}
    mail = {"to": "you@inbox.example", "subject": "Hello", "text": "It works."}
    request = urllib.request.Request(  # noqa: S310 - our own
        f"{record['gateway_url']}/v1/messages",
        json.dumps(mail).encode(),
        {**key, "Content-Type": "application/json", "Prefer": "wait=20"},
    )
    status = 503
    give_up = time.monotonic() + 60
    while status == 503 and time.monotonic() < give_up:
        status = answered(request)

    assert own_stack.running["rabbitmq"] != before
    assert status == 200
    launcher.send_signal(signal.SIGTERM)
    output, _ = launcher.communicate()
    assert launcher.returncode == 0, output


@pytest.mark.journey
@pytest.mark.rabbit
def test_an_end_that_waits_and_one_at_once(stack_on_vhost: Stack) -> None:
    """The first signal waits for the relay, and says so; the second one does not."""
    launcher = stack_on_vhost.up()
    record = stack_on_vhost.record
    mail = {"to": "slow-600000-dot@inbox.example", "subject": "Hello", "text": "It works."}
    request = urllib.request.Request(  # noqa: S310 - our own
        f"{record['gateway_url']}/v1/messages",
        json.dumps(mail).encode(),
        {
            "Authorization": f"Bearer {record['client_key']}",
            "Content-Type": "application/json",
        },
    )
    assert answered(request) == 202
    by = f'category="transactional",relay="127.0.0.1:{record["smtp_port"]}"'
    wait_for(stack_on_vhost, f"postrider_smtp_opened_total{{{by}}} 1.0")  # and MAIL is said then
    launcher.send_signal(signal.SIGTERM)
    read_until(launcher.stdout, "waits_for")
    launcher.send_signal(signal.SIGINT)
    output, _ = launcher.communicate()

    assert launcher.returncode == 0, output
    assert "postrider: ending at once; Ctrl-C again kills everything" in output
    assert "second signal: ending without the work in flight" in output
    assert "did not end" not in output
    assert "nothing is left running" in output


def wait_for(stack: Stack, measure: str) -> None:
    """Wait until the sender shows a line among its metrics."""
    url = stack.record["services"]["sender"]["health_url"].replace("healthz", "metrics")
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        with urllib.request.urlopen(url) as response:  # noqa: S310 - our own
            if measure in response.read().decode():
                return
    pytest.fail(f"no {measure}")


def answered(request: urllib.request.Request) -> int:
    """Send a request and return the status."""
    try:
        with urllib.request.urlopen(request) as response:  # noqa: S310 - our own
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_down_is_content_with_nothing(tmp_path: Path) -> None:
    """`make down` without a stack is a success."""
    down = Stack(tmp_path / "run").ops("down")

    assert (down.returncode, down.stdout) == (0, "postrider: nothing is running\n")


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    """A taken port is an error with its holder and its variable; nothing is started."""
    stack = Stack(tmp_path / "run")
    with socket.create_server(("127.0.0.1", int(stack.environ["SMTP_PORT"]))):
        up = stack.ops("up")

    assert up.returncode == 1
    assert up.stderr.count("\n") == 1
    assert f"port {stack.environ['SMTP_PORT']} is taken by" in up.stderr
    assert "set SMTP_PORT to another port" in up.stderr
    assert stack.running == {}


def test_a_dead_broker_is_one_clear_line_without_its_password(tmp_path: Path) -> None:
    """An unreachable broker is an error in one line, within seconds."""
    url = f"amqp://user:secret@127.0.0.1:{ports.unused(1)[0]}/"
    up = Stack(tmp_path / "run", AMQP_URL=url).ops("up")

    assert up.returncode == 1
    assert up.stderr.count("\n") == 1
    assert "postrider: RabbitMQ at amqp://user:***@127.0.0.1" in up.stderr
    assert "secret" not in up.stdout + up.stderr


def test_settings_that_cannot_be_read_are_one_clear_line(tmp_path: Path) -> None:
    """An unreadable file is an error before anything is started."""
    stack = Stack(tmp_path / "run", CONFIG_FILE=str(tmp_path / "none.toml"))
    up = stack.ops("up")

    assert up.returncode == 2
    assert up.stderr == (
        f"ops up: wrong settings\n{tmp_path}/none.toml: cannot be read: No such file or directory\n"
    )
    assert stack.running == {}


def test_mistakes_of_all_services_are_reported_before_anything_starts(tmp_path: Path) -> None:
    """All mistakes of file and environment are reported, with their services."""
    (tmp_path / "x.toml").write_text("[sender]\nform = 'me@me.example'\n[otp]\ntries = 0\n")
    stack = Stack(tmp_path / "run", CONFIG_FILE=str(tmp_path / "x.toml"), GATEWAY_MAX_BODDY="1")
    up = stack.ops("up")

    assert up.returncode == 2
    assert up.stderr.splitlines() == [
        "ops up: wrong settings",
        f"otp: {tmp_path}/x.toml: otp.tries: must be at least 1",
        f"sender: {tmp_path}/x.toml: sender.form: there is no such setting; perhaps from?",
        "gateway: GATEWAY_MAX_BODDY: there is no such setting; perhaps GATEWAY_MAX_BODY?",
    ]
    assert up.stdout == ""
    assert stack.running == {}


@pytest.mark.parametrize("url", ["broker.example", "http://user:secret@[::1", "amqp://h:99999/"])
def test_a_wrong_broker_address_is_one_line(tmp_path: Path, url: str) -> None:
    """A wrong AMQP_URL is reported as such."""
    up = Stack(tmp_path / "run", AMQP_URL=url).ops("up")

    assert up.returncode == 2
    first, line = up.stderr.splitlines()
    assert first == "ops up: wrong settings"
    assert line.startswith("AMQP_URL: ")
    assert "secret" not in line
