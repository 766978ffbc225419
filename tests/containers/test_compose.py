"""The compose file: the journeys in containers, least rights, and no loss."""

import asyncio
import json
import re
import secrets
import shlex
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import aiohttp
import pytest

from ops.docker import docker
from shared.topology import Owner
from tests.containers.compose import Compose, addresses, registered, running
from tests.journeys.test_domains import test_our_own_mail_is_evidence
from tests.journeys.test_mail import (
    test_a_client_that_waits_gets_the_outcome,
    test_a_mail_arrives_as_it_was_sent,
)
from tests.journeys.test_otp import test_a_code_is_right_once
from tests.journeys.test_shutdown import insisting
from tests.journeys.user import User
from tests.modules import ROOT
from tests.pages import blocks, is_run
from tests.processes import started
from tests.shell import is_like, shell
from tests.shop import block
from tests.test_monitoring import RULES, SELECTOR, expressions
from tests.waiting import until

__all__ = [
    "test_a_client_that_waits_gets_the_outcome",
    "test_a_code_is_right_once",
    "test_a_mail_arrives_as_it_was_sent",
    "test_our_own_mail_is_evidence",
]

FOLDER = Path(__file__).parent
# The first test waits for an image to be built and for everything to start.
pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]

OURS = {
    "classifier": {"AMQP_URL", "DATABASE_URL"},
    "ledger": {"AMQP_URL", "DATABASE_URL", "SUPPRESSION_KEY"},
    "gateway": {
        *("AMQP_URL", "DATABASE_URL", "GATEWAY_ADMIN_TOKEN", "GATEWAY_KEY_SECRET", "LINK_KEY")
    },
    "scheduler": {"AMQP_URL", "DATABASE_URL", "LINK_KEY"},
    "inbound": {"AMQP_URL", "BOUNCE_KEY", "DATABASE_URL"},
    "webhooks": {"AMQP_URL", "DATABASE_URL", "WEBHOOK_KEY"},
    "console": {"AMQP_URL", "CONSOLE_SESSION_KEY", "CONSOLE_TOKEN", "DATABASE_URL"},
    "otp": {"AMQP_URL", "DATABASE_URL", "OTP_KEY", "SEALING_KEY"},
    "sender": {"AMQP_URL", "BOUNCE_KEY", "DATABASE_URL", "SEALING_KEY", "SUPPRESSION_KEY"},
    "rabbitmq": {"ERLANG_COOKIE", "RABBITMQ_DEFAULT_PASS"},
    "postgres": {"POSTGRES_PASSWORD"},
}

# The pattern does not match the shell that looks for it.
SIGNALLED = (
    "for process in /proc/[0-9]*; do"
    " if grep -q 'services[.]classifier' $process/cmdline; then kill -{} ${{process#/proc/}}; fi;"
    " done"
)


def person(number: int) -> str:
    """Return a recipient of the load."""
    return f"stop+{number}@mail.example"


async def keep_sending(user: User, over: asyncio.Event) -> int:
    """Send a mail to one recipient after the other, with repetitions; count them."""

    async def send(to: str) -> int:
        return (await user.send(to)).status

    sent = 0
    while not over.is_set():
        await insisting(partial(send, person(sent)), wanted=202)
        sent += 1
    return sent


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """Start all containers once."""
    with running(tmp_path_factory.mktemp("compose")) as started:
        yield started


@pytest.fixture
async def user(compose: Compose) -> AsyncIterator[User]:
    """Return a user with a key of its own."""
    async with User.of(await registered(compose, secrets.token_hex(8))) as somebody:
        yield somebody


def test_everything_is_up(compose: Compose) -> None:
    """Services run; one-time containers have ended with 0."""
    prepare = dict.fromkeys(("credentials", "topology", "roles"), "exited 0")
    serve = dict.fromkeys((*Owner, "simulator", "rabbitmq", "postgres", "ready"), "running 0")

    assert compose.containers() == prepare | serve


def test_the_first_start_says_nothing_of_errors(compose: Compose) -> None:
    """The first start pulls no image that is built here, and warns of no volume."""
    assert re.search(r"-ready-1 +Healthy\n", compose.first_start)
    assert not re.search(r"(?i)error|warn", compose.first_start)


def test_nine_ports_are_published_on_loopback(compose: Compose) -> None:
    """Nine ports are published on this machine; that of the database is not."""
    published = compose.run("ps", "--format", "{{.Ports}}").split()
    ways = [each for each in published if "->" in each]

    assert sorted(each.partition("->")[2].strip(",") for each in ways) == [
        "15672/tcp",
        "2465/tcp",
        "2525/tcp",
        "2526/tcp",
        "2587/tcp",
        "5672/tcp",
        "8025/tcp",
        "8080/tcp",  # of the gateway
        "8080/tcp",  # of the console
    ]
    assert all(each.startswith("127.0.0.1:") for each in ways)


def test_the_last_line_says_where_everything_is(compose: Compose) -> None:
    """The last line of the log has the addresses."""
    output = compose.run("logs", "--no-log-prefix", "ready")

    assert "Postrider is up." in output
    # The gateway's is a range here.
    assert f"gateway    {compose.url('gateway', 8080)}"[:-1] in output
    for place in (
        f"mailbox    {compose.url('simulator', 8025)}",
        f"SMTP       {compose.place('simulator', 2525)},",
        f"RabbitMQ   {compose.place('rabbitmq', 5672)},",
        compose.url("rabbitmq", 15672),
    ):
        assert place in output


def test_the_log_of_the_broker_is_no_flood(compose: Compose) -> None:
    """The broker does not log each connection."""
    assert "connection" not in compose.run("logs", "--no-log-prefix", "rabbitmq")


def test_the_image_says_what_it_is(compose: Compose) -> None:
    """The image has the usual labels and a health check."""
    config = json.loads(docker("image", "inspect", compose.image))[0]["Config"]

    assert config["Labels"]["org.opencontainers.image.title"] == "Postrider"
    assert all(each in config["Labels"]["org.opencontainers.image.description"] for each in Owner)
    assert config["Labels"]["org.opencontainers.image.version"] == version("postrider")
    assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT AND Apache-2.0 AND 0BSD"
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "ops.health"]


def test_a_frozen_service_is_unhealthy(compose: Compose) -> None:
    """The health check detects a program that is stopped."""
    asked = ("classifier", "python", "-m", "ops.health")
    compose.execute(*asked)
    compose.execute("classifier", "sh", "-c", SIGNALLED.format("STOP"))
    try:
        with pytest.raises(CalledProcessError):
            compose.execute(*asked)
    finally:
        compose.execute("classifier", "sh", "-c", SIGNALLED.format("CONT"))


async def test_a_program_publishes_as_the_page_says(compose: Compose, tmp_path: Path) -> None:
    """A user of its own, made by the command of docs/publish.md, sends a mail and follows it."""
    command = shlex.split(block("sh", "docker compose"))
    made = urlsplit(compose.run(*command[2:]).strip())
    program = tmp_path / "send.py"
    program.write_text(block("python", "send.py"))
    assert made.hostname == "rabbitmq"
    url = f"amqp://shop:{made.password}@{compose.place('rabbitmq', 5672)}/"

    async with (
        asyncio.timeout(60),
        started(program, env={"AMQP_URL": url}, stdout=PIPE) as process,
    ):
        out, _ = await process.communicate()

    assert process.returncode == 0
    assert out.decode().splitlines()[-1] == "email.delivered ann@example.org"


def test_the_commands_of_the_page(compose: Compose, tmp_path: Path) -> None:
    """The commands of docs/containers.md work as they stand."""
    gateway = compose.place("gateway", 8080)
    folder = f"cd {shlex.quote(str(ROOT))}"
    with shell(tmp_path, compose.environ) as terminal:
        terminal.run(folder)
        for block in filter(is_run, blocks("docs/containers.md")):
            result = terminal.run(block.text.replace("localhost:8080", gateway))

            assert result.code == 0, f"{block.text}{result.output}"
            assert block.output is None or is_like(result.output, block.output, numbers=False)
    compose.run("up", "--detach", "--wait", "--no-recreate", "--scale", "sender=1")


def test_the_gateway_may_be_scaled(compose: Compose) -> None:
    """With a range of ports each replica has one of them."""
    compose.run("up", "--detach", "--wait", "--no-recreate", "--scale", "gateway=2")
    ways = compose.run("ps", "gateway", "--format", "{{.Ports}}").split()
    answers = [
        urlopen(f"http://{each.partition('->')[0]}/ping", timeout=10).read() for each in ways
    ]
    compose.run("up", "--detach", "--wait", "--no-recreate", "--scale", "gateway=1")

    assert answers == [b"pong", b"pong"]


async def test_prometheus_knows_every_metric(compose: Compose) -> None:
    """Prometheus reaches all of them, and each metric of an alert or a panel is there."""
    wanted = {name for each in expressions() for name, _ in SELECTOR.findall(each)}
    await asyncio.to_thread(compose.run, "up", "--detach", "--wait", "--no-recreate", "prometheus")
    try:
        base = f"{compose.url('prometheus', 9090)}/api/v1"
        async with aiohttp.ClientSession(raise_for_status=True) as session:

            async def ask(path: str) -> Any:  # noqa: ANN401 -- JSON
                async with session.get(f"{base}/{path}") as answer:
                    return (await answer.json())["data"]

            async def unknown() -> set[str]:
                known = await ask("metadata")
                return {
                    name
                    for name in wanted
                    if name not in known and re.sub("_(bucket|sum|count)$", "", name) not in known
                }

            async def all_is_seen() -> bool:
                try:
                    targets = (await ask("targets"))["activeTargets"]
                except aiohttp.ClientError:  # Docker listens before Prometheus does
                    return False
                seen = {each["labels"].get("service") for each in targets if each["health"] == "up"}
                rules = (await ask("rules"))["groups"][0]["rules"]
                return (
                    seen == {*Owner, "rabbitmq-nodes"}
                    and {rule["health"] for rule in rules} == {"ok"}
                    and not await unknown()
                )

            try:
                await until(all_is_seen, within=180)
            except TimeoutError:
                pytest.fail(f"unknown: {await unknown()}; {json.dumps(await ask('targets'))}")
    finally:
        compose.run("rm", "--stop", "--force", "prometheus")


def test_each_alert_fires_for_what_it_is_about() -> None:
    """Promtool plays alerts_test.yml: each alert fires, and none while all is well."""
    folders = (f"--volume={ROOT}/ops/monitoring:/rules:ro", f"--volume={FOLDER}:/tests:ro")
    tool = ("run", "--rm", "--entrypoint=promtool", *folders, "prom/prometheus:v3")

    assert "SUCCESS" in docker(*tool, "test", "rules", "/tests/alerts_test.yml", within=300)
    tested = set(re.findall(r"- name: (\w+)\n", (FOLDER / "alerts_test.yml").read_text()))
    assert tested == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("container", OURS)
def test_a_container_sees_its_own_secrets_only(compose: Compose, container: str) -> None:
    """No service has the password or key of another."""
    assert set(compose.execute(container, "ls", "/run/secrets").split()) == OURS[container]


@pytest.mark.parametrize("service", [*Owner, "simulator"])
def test_a_service_can_change_nothing_of_its_container(compose: Compose, service: str) -> None:
    """A service has no root, no capability, and writes only to its volume."""
    status = compose.execute(service, "cat", "/proc/self/status").splitlines()
    fields = dict(line.split(":\t") for line in status if ":\t" in line)

    assert "0" not in fields["Uid"].split()
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    with pytest.raises(CalledProcessError):
        compose.execute(service, "touch", "/opt/postrider/written")


def test_a_service_cannot_read_anothers_tables(compose: Compose) -> None:
    """The database role of a service cannot read another schema."""
    url = compose.execute("otp", "cat", "/run/secrets/DATABASE_URL").replace("+asyncpg", "")

    own = compose.execute("postgres", "psql", url, "--command=SELECT count(*) FROM otp.challenges")
    assert "1 row" in own
    with pytest.raises(CalledProcessError) as refused:
        compose.execute("postgres", "psql", url, "--command=SELECT * FROM gateway.clients")
    assert b"permission denied for schema gateway" in refused.value.stderr


async def test_stopping_loses_nothing(compose: Compose) -> None:
    """`docker compose stop` under load loses nothing, and every container exits with 0."""
    record = await registered(compose, "stopping")
    over = asyncio.Event()
    async with User.of(record) as user:
        sending = asyncio.create_task(keep_sending(user, over))
        await user.wait_for_mails(person(0))
        await asyncio.to_thread(compose.run, "stop", *Owner)
        states = compose.containers()
        await asyncio.to_thread(compose.run, "start", *Owner)
        # Of a range of ports Docker may choose another one at each start.
        record |= addresses(compose)
        over.set()
        sent = await sending
        arrived = [await user.wait_for_mails(person(number)) for number in range(sent)]

    assert {states[name] for name in Owner} == {"exited 0"}
    assert {len(mails) for mails in arrived} == {1}


async def test_a_second_up_finds_its_data(compose: Compose) -> None:
    """After `down` and `up` there are the same keys, mails and domains."""
    record = await registered(compose, "returning")
    async with User.of(record) as user:
        await user.send("kept@again.example")
        await user.wait_for_domain("again.example", counted=1)
    await asyncio.to_thread(compose.down)
    await asyncio.to_thread(compose.up)

    async with User.of(record | addresses(compose)) as user:
        mails = await user.mails("kept@again.example")
        domain = await user.ask("GET", "/v1/domains/again.example")
        answer = await user.send("new@again.example")
        await user.wait_for_mails("new@again.example")

    assert len(mails) == 1
    assert domain.body["delivered"] == 1
    assert answer.status == 202
